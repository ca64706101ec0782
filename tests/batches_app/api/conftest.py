import pytest

from tests.tenants import Tenant


@pytest.fixture
def owner(db: None) -> Tenant:
    return Tenant("owner")


@pytest.fixture
def stranger(db: None) -> Tenant:
    return Tenant("stranger")

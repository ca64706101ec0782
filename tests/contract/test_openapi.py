"""The OpenAPI document against the server: what it says is what is done, whatever is sent (C1, C2, C6)."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from openai import OpenAI
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from config.api.schema_document import document
from config.api.scopes import Scope
from tests.stack import Stack
from tests.tenants import LINE

pytestmark = pytest.mark.once
EXAMPLES = 50  # of each operation at random, after those that cover each rule of the document
# A well-formed value may still be refused: an id that is nobody's, a moment in month 13, a name with another extension.
EXCLUDED = [positive_data_acceptance]
# In a query these are all sent as `status=`, which is no filter, as if it were not there.
BLANK: tuple[Any, ...] = (None, "", [], [""], [None])
API = schemathesis.openapi.from_dict(document())
API.config.generation.update(
    allow_extra_parameters=False,  # what is not known in a query is ignored, as in a body
    with_security_parameters=False,  # the visitor's key is in each request; `ignored_auth` sends some without
)


class Visitor:
    """Has a key, and what the operations are about. Every second id that is sent is one that exists."""

    def __init__(self, stack: Stack) -> None:
        rates = [part for scope in Scope for part in ("--rate-limit", f"{scope}=10000000")]
        self.url = f"http://127.0.0.1:{stack.port}"
        self.session = requests.Session()
        self.key = stack.manage("create_account", "schemathesis", *rates)["key"]
        self.session.headers["Authorization"] = f"Bearer {self.key}"
        self._calls = 0

    def existing(self, names: dict[str, Any]) -> dict[str, Any]:
        self._calls += 1
        if self._calls % 2:
            return names
        return {name: self.make(name, value) for name, value in names.items()}

    def make(self, name: str, otherwise: Any = None) -> Any:
        if name == "file_id":
            return self._post("files", data={"purpose": "batch"}, files={"file": ("in.jsonl", LINE)})
        if name == "batch_id":
            body = {"input_file_id": "x", "endpoint": "/v1/embeddings", "completion_window": "24h"}
            return self._post("batches", json=body)
        if name == "upload_id":
            announced: dict[str, Any] = {"purpose": "batch", "filename": "x", "bytes": 1, "mime_type": "x"}
            return self._post("uploads", json=announced)
        return "batch-test-model" if name == "model_id" else otherwise

    def part_of(self, upload_id: str) -> Any:
        return self._post(f"uploads/{upload_id}/parts", files={"data": b"x"})

    def _post(self, path: str, **options: Any) -> Any:
        return self.session.post(f"{self.url}/v1/{path}", timeout=10, **options).json()["id"]


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    # Of its own: what is sent at random leaves uploads pending and quotas used.
    with Stack(tmp_path_factory.mktemp("openapi"), ALLOW_INPUT_DOWNLOAD="1") as stack:
        made = Visitor(stack)

        @API.hook("map_path_parameters")
        def existing(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
            return path_parameters and made.existing(path_parameters)

        with made.session:
            yield made


@API.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_the_document_is_kept(visitor: Visitor, case: Any) -> None:
    blank = any(value in BLANK for value in (case.query or {}).values())
    excluded = [*EXCLUDED, negative_data_rejection] if blank else EXCLUDED
    case.call_and_validate(base_url=visitor.url, session=visitor.session, excluded_checks=excluded, timeout=30)


# The examples

OPERATIONS = [one for methods in document()["paths"].values() for one in methods.values()]
IDS = re.compile(
    r"(?P<upload_id>upload_[0-9a-f]{24,32})|(?P<file_id>file-batch\w*-[0-9a-f]{24})|(?P<batch_id>batch_[0-9a-f]{32})"
)
PART = re.compile(r"part_[0-9a-f]{24,32}")


@pytest.fixture
def place(visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "requests.jsonl").write_bytes(LINE)
    (tmp_path / "part-1").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def example(visitor: Visitor, operation: Any, language: str) -> str:
    """With ids of what there is."""
    source: str = next(one["source"] for one in operation["x-codeSamples"] if one["lang"] == language)
    made = {found[0]: visitor.make(str(found.lastgroup)) for found in IDS.finditer(source)}
    for shown, real in made.items():
        source = source.replace(shown, real)
        if real.startswith("upload_"):
            source = PART.sub(lambda _: visitor.part_of(real), source)  # noqa: B023  # used at once
    return source


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: str(one["operationId"]))
def test_the_python_examples_run(visitor: Visitor, operation: Any, place: Path) -> None:
    with OpenAI(base_url=f"{visitor.url}/v1", api_key=visitor.key, max_retries=0) as client:
        exec(example(visitor, operation, "Python"), {"client": client})


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: str(one["operationId"]))
def test_the_curl_examples_run(visitor: Visitor, operation: Any, place: Path) -> None:
    command = example(visitor, operation, "curl").replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
    environment = {**os.environ, "BATCHDESK": visitor.url, "API_KEY": visitor.key}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

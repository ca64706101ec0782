from typing import Any

import pytest
from django.conf import settings as django_settings
from hypothesis import given
from hypothesis import strategies as st

from config.api.errors import ApiError
from files_app.api.ranges import requested_range
from files_app.models import StoredFile
from tests.tenants import LINE, Tenant, error_of

CONTENT = bytes(range(256)) * 40


def body_of(response: Any) -> bytes:
    content: bytes = b"".join(response.streaming_content)
    response.close()
    return content


def test_list(owner: Tenant, stranger: Tenant) -> None:
    """F4, F5: everything the account has, results too, newest first."""
    stranger.has_file()
    ids = [owner.has_file().public_id, owner.has_result(LINE).public_id, owner.has_file().public_id]
    page = owner.get("files").json()
    assert list(page) == ["object", "data", "first_id", "last_id", "has_more"]
    assert [file["id"] for file in page["data"]] == ids[::-1]
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", ids[2], ids[0], False)


def test_empty_list(owner: Tenant) -> None:
    """F5: a list of nothing has its members too."""
    empty: dict[str, Any] = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert owner.get("files").json() == empty


def test_pages(owner: Tenant) -> None:
    """F5: pages after one another show each file once, either way round."""
    ids = [owner.has_file().public_id for _ in range(5)]
    for order, expected in (("desc", ids[::-1]), ("asc", ids)):
        seen: list[str] = []
        query: dict[str, Any] = {"limit": 2, "order": order}
        for has_more in (True, True, False):
            page = owner.get("files", query).json()
            assert page["has_more"] is has_more
            seen += [file["id"] for file in page["data"]]
            query["after"] = page["last_id"]
        assert seen == expected


def test_purpose_filter(owner: Tenant) -> None:
    """F5: `purpose` filters, and does not keep `after` from being found."""
    first, result, last = owner.has_file(), owner.has_result(LINE), owner.has_file()
    only = [file["id"] for file in owner.get("files", {"purpose": "batch"}).json()["data"]]
    assert only == [last.public_id, first.public_id]
    after = owner.get("files", {"purpose": "batch", "after": result.public_id}).json()
    assert [file["id"] for file in after["data"]] == [first.public_id]


def test_page_size(owner: Tenant) -> None:
    """F5: 1…10000 files on a page, 10000 unless asked otherwise."""
    rows = [
        StoredFile(account=owner.account, purpose="batch", filename="x", bytes=0, sha256="", blob=f"files/none/{n}")
        for n in range(10_001)
    ]
    StoredFile.objects.bulk_create(rows)
    for query, size in (("", 10_000), ("?limit=10000", 10_000), ("?limit=9999", 9_999), ("?limit=1", 1)):
        page = owner.get(f"files{query}").json()
        assert (len(page["data"]), page["has_more"], page["last_id"]) == (size, True, rows[10_001 - size].public_id)
    rest = owner.get("files", {"limit": 10_000, "after": page["first_id"]}).json()
    assert (len(rest["data"]), rest["has_more"], rest["last_id"]) == (10_000, False, rows[0].public_id)


@pytest.mark.parametrize(("param", "value"), [("limit", "0"), ("limit", "10001"), ("order", "up"), ("after", "file-x")])
def test_bad_query(owner: Tenant, param: str, value: str) -> None:
    """F5: a bad value is a 400 with its param."""
    assert error_of(owner.get("files", {param: value}), 400)["param"] == param


def test_after_anothers_file(owner: Tenant, stranger: Tenant) -> None:
    """C7: another account's file is no place to list after."""
    theirs = stranger.has_file().public_id
    unknown = theirs[:-1] + ("0" if theirs[-1] != "0" else "1")
    one, other = (owner.get("files", {"after": file}) for file in (theirs, unknown))
    assert error_of(one, 400)["param"] == "after"
    assert one.content.replace(theirs.encode(), b"X") == other.content.replace(unknown.encode(), b"X")


def test_retrieve(owner: Tenant) -> None:
    """F6: a file's object is the one that its upload answered."""
    uploaded = owner.upload().json()
    assert owner.get(f"files/{uploaded['id']}").json() == uploaded


@pytest.mark.django_db(transaction=True)
def test_delete(owner: Tenant) -> None:
    """F6: a deleted file is gone, from everywhere."""
    file = owner.has_result(LINE)
    assert owner.delete(f"files/{file.public_id}").json() == {"id": file.public_id, "object": "file", "deleted": True}
    message = f"No such File object: {file.public_id}"
    for path in (f"files/{file.public_id}", f"files/{file.public_id}/content"):
        assert error_of(owner.get(path), 404)["message"] == message
    error_of(owner.delete(f"files/{file.public_id}"), 404)
    assert owner.get("files").json()["data"] == []
    assert not StoredFile.objects.exists()


def test_isolation(owner: Tenant, stranger: Tenant) -> None:
    """C7: byte for byte, another account's file answers like one that does not exist."""
    theirs = owner.has_result(LINE).public_id
    unknown = theirs[:-1] + ("0" if theirs[-1] != "0" else "1")
    for suffix in ("", "/content"):
        real, none = (stranger.get(f"files/{file}{suffix}") for file in (theirs, unknown))
        assert (real.status_code, _headers(real)) == (none.status_code, _headers(none)) == (404, _headers(none))
        assert real.content.replace(theirs.encode(), b"ID") == none.content.replace(unknown.encode(), b"ID")
    real, none = (stranger.delete(f"files/{file}") for file in (theirs, unknown))
    assert (real.status_code, none.status_code) == (404, 404)
    assert real.content.replace(theirs.encode(), b"ID") == none.content.replace(unknown.encode(), b"ID")
    assert owner.get(f"files/{theirs}").status_code == 200


def _headers(response: Any) -> dict[str, str]:
    """Without those that differ between any two answers."""
    counted = ("x-request-id", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
    return {name: value for name, value in response.items() if name not in counted}


def test_content(owner: Tenant) -> None:
    """F7: the bytes of a result file, with their length and name."""
    file = owner.has_result(CONTENT)
    response = owner.get(f"files/{file.public_id}/content", Accept="application/binary")
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Length"] == str(len(CONTENT))
    assert response["Content-Disposition"] == 'attachment; filename="batch_1_output.jsonl"'
    assert body_of(response) == CONTENT


def test_content_of_an_input_file(owner: Tenant, settings: Any) -> None:
    """F7: an input file's content is not given out, unless the operator allows it."""
    file = owner.has_file(CONTENT)
    path = f"files/{file.public_id}/content"
    assert error_of(owner.get(path), 400)["message"] == "Not allowed to download files of purpose: batch"
    settings.ALLOW_INPUT_DOWNLOAD = True
    assert body_of(owner.get(path)) == CONTENT


def test_input_download_is_off_by_default() -> None:
    """F7: …unless."""
    assert django_settings.ALLOW_INPUT_DOWNLOAD is False


@pytest.mark.parametrize(
    "name",
    [
        'a"b.jsonl',
        "a\\b.jsonl",
        "ż😀.jsonl",
        "a\r\nSet-Cookie: x.jsonl",
        "a;b=c.jsonl",
        "a'%22.jsonl",
        "\u202elnosj.exe",
        "a\x1b[31m.jsonl",
    ],
)
def test_hostile_names_in_the_header(owner: Tenant, name: str) -> None:
    """F7: no filename breaks out of Content-Disposition."""
    file = owner.has_result(LINE, filename=name)
    response = owner.get(f"files/{file.public_id}/content")
    assert response.status_code == 200
    disposition = response["Content-Disposition"]
    assert disposition.isascii()
    assert disposition.isprintable()
    assert disposition.startswith("attachment; filename")
    assert "Set-Cookie" not in response
    body_of(response)


@pytest.mark.parametrize(
    ("header", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=10000-", 10_000, 10_240),
        ("bytes=-10", 10_230, 10_240),
        ("bytes=-99999", 0, 10_240),
        ("bytes=10239-99999", 10_239, 10_240),
    ],
)
def test_range(owner: Tenant, header: str, first: int, stop: int) -> None:
    """F7: a range of bytes, and no byte more."""
    file = owner.has_result(CONTENT)
    response = owner.get(f"files/{file.public_id}/content", Range=header)
    assert response.status_code == 206
    assert response["Content-Range"] == f"bytes {first}-{stop - 1}/10240"
    assert response["Content-Length"] == str(stop - first)
    assert body_of(response) == CONTENT[first:stop]


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "bytes=-", "lines=0-1", "bytes=a-b", "bytes=5-4", "", "bytes"])
def test_no_range(owner: Tenant, header: str) -> None:
    """F7: what is no single range of bytes gets the whole file."""
    file = owner.has_result(CONTENT)
    response = owner.get(f"files/{file.public_id}/content", Range=header)
    assert response.status_code == 200
    assert body_of(response) == CONTENT


@pytest.mark.parametrize("header", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_range_outside(owner: Tenant, header: str) -> None:
    """F7: a range that the file does not have is a 416, with the envelope and the size."""
    file = owner.has_result(CONTENT)
    response = owner.get(f"files/{file.public_id}/content", Range=header)
    error_of(response, 416)
    assert response["Content-Range"] == "bytes */10240"


def test_range_of_5000_digits(owner: Tenant) -> None:
    """C6: numbers of 5,000 digits in a header."""
    file = owner.has_result(CONTENT)
    for header in (f"bytes={'9' * 5_000}-", f"bytes=-{'9' * 5_000}", f"bytes=0-{'9' * 5_000}"):
        error_of(owner.get(f"files/{file.public_id}/content", Range=header), 400)


def test_if_range(owner: Tenant) -> None:
    """F7: a range of another version of the file is not a range of this one."""
    file = owner.has_result(CONTENT)
    path = f"files/{file.public_id}/content"
    first = owner.get(path, Range="bytes=0-1")
    same = owner.get(path, **{"Range": "bytes=0-1", "If-Range": first["ETag"]})
    other = owner.get(path, **{"Range": "bytes=0-1", "If-Range": '"other"'})
    assert [len(body_of(response)) for response in (first, same, other)] == [2, 2, len(CONTENT)]


@given(st.text(), st.integers(0, 2**40))
def test_any_range_header(header: str, size: int) -> None:
    """C6: whatever a Range header says, it names bytes of the file, or none, or is refused."""
    try:
        found = requested_range(header, size)
    except ApiError:
        return
    assert found is None or (0 <= found.start < found.stop <= size)

"""Servers that misbehave: right bytes after another attempt, or an error; never wrong bytes."""

from __future__ import annotations

import contextlib
import random

import pytest

from embstore.errors import EmbstoreError, RemoteError, StoreNotFoundError
from embstore.remote import requests
from embstore.remote.failures import failure_of
from embstore.remote.objects import Request
from embstore.remote.urls import objects_at
from tests import misbehaving as bad

DATA = random.Random(3).randbytes(100_000)
NAME = "glove/c/0"
TIMEOUT = 120.0  # Seconds: nothing waits for it but stalls, which get less.
STALL_TIMEOUT = 6.0
REQUEST = Request(NAME, 1000, 5000, bad.etag_of(DATA).strip('"'))
EXPECTED = DATA[1000:6000]

# What an answer may be instead of the right one, and whether another attempt helps.
ONCE = {
    "cut": (bad.cut, True),
    "cut in the headers": (bad.cut_headers, True),
    "hang up": (bad.hang_up, True),
    "reset": (bad.reset, True),
    "reset in the middle": (bad.reset_midway, True),
    "garbage": (bad.garbage, True),
    "200 for 206": (bad.whole_object, True),
    "another range": (bad.shifted, True),
    "another range is told": (bad.lie(Content_Range="bytes 1001-6000/100000"), True),
    "a shorter range is told": (bad.lie(Content_Range="bytes 1000-5998/100000"), True),
    "a longer range is told": (bad.lie(Content_Range="bytes 1000-6000/100000"), True),
    "a range backwards is told": (bad.lie(Content_Range="bytes 6000-1000/100000"), True),
    "a huge range is told": (bad.lie(Content_Range=f"bytes 1000-{2**64 - 1}/{2**64 - 1}"), True),
    "a smaller object is told": (bad.lie(Content_Range="bytes 1000-5999/3"), True),
    "a range of unknown size is told": (bad.lie(Content_Range="bytes 1000-5999/*"), True),
    "no range is told": (bad.lie(Content_Range=""), True),
    "not a range is told": (bad.lie(Content_Range="bytes lots"), True),
    "another ETag": (bad.lie(ETag='"other"'), False),
    "a weak ETag": (bad.lie(ETag="W/" + bad.etag_of(DATA)), None),
    "no ETag": (bad.lie(ETag=""), True),
    "fewer bytes": (bad.fewer, True),
    "more bytes": (bad.more, True),
    "chunked": (bad.chunked, True),
    "chunked, more bytes": (bad.chunked_more, True),
    "compressed": (bad.lie(Content_Encoding="gzip"), True),
    "endless": (bad.endless, True),
    "500": (bad.status(500), True),
    "503": (bad.status(503, "SlowDown"), True),
    "429": (bad.status(429), True),
    "408": (bad.status(408), True),
    "204": (bad.status(204), True),
    "304": (bad.status(304), True),
    "400": (bad.status(400, "BadRequest"), False),
    "401": (bad.status(401), False),
    "403": (bad.status(403, "AccessDenied"), False),
    "404": (bad.status(404, "NoSuchKey"), False),
    "409": (bad.status(409), False),
    "412": (bad.status(412), False),
    "416": (bad.status(416), True),
    "301 to nowhere": (bad.status(301), False),
    "a status of 999": (bad.status(999), None),
    "the object changed": (bad.changed, False),
}
STALLS = {"stall": bad.stall, "stall in the middle": bad.stall_midway}
KINDS = ("s3", "http")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(requests, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(requests, "_MAX_ATTEMPTS", 5)


@pytest.fixture
def store():
    with bad.misbehaving({NAME: DATA, f"deep/{NAME}": DATA}) as made:
        yield made


@pytest.fixture(params=KINDS)
def objects(request, store, no_credentials):
    """The objects of the misbehaving store, by its S3 and by its plain side."""
    return opened(request.param, store, no_credentials)


def opened(kind, store, no_credentials, timeout=TIMEOUT):
    if kind == "http":
        return objects_at(f"{store.url}/plain", timeout=timeout)
    no_credentials.setenv("AWS_ENDPOINT_URL", store.url)
    return objects_at("s3://bucket", timeout=timeout)


def read(objects, request=REQUEST):
    ((_, data),) = objects.read_many([request])
    return data


@pytest.mark.parametrize("name", ONCE)
def test_one_bad_answer(name, store, objects):
    behaviour, again_helps = ONCE[name]
    store.script = [behaviour]
    if again_helps is None:  # Either is fine, but not other bytes.
        with contextlib.suppress(RemoteError):
            assert read(objects) == EXPECTED
    elif again_helps:
        assert read(objects) == EXPECTED
        assert len(store.asked) >= 2 or behaviour is bad.chunked
    else:
        with pytest.raises(EmbstoreError) as caught:
            read(objects)
        assert store.url.partition("//")[2] in str(caught.value) or "s3://bucket" in str(
            caught.value
        )


@pytest.mark.parametrize("name", [name for name in ONCE if name not in ("chunked", "a weak ETag")])
def test_nothing_but_bad_answers(name, store, objects):
    store.always = ONCE[name][0]
    with pytest.raises((RemoteError, StoreNotFoundError)) as caught:
        read(objects)
    assert NAME in str(caught.value)
    assert len(store.asked) <= 10


@pytest.mark.parametrize("name", STALLS)
def test_a_stall_is_noticed_and_the_request_tried_again(name, store, no_credentials):
    store.script = [STALLS[name]]
    objects = opened("s3", store, no_credentials, STALL_TIMEOUT)
    assert read(objects) == EXPECTED
    assert len(store.asked) >= 2


@pytest.mark.parametrize("behaviour", [*STALLS.values(), bad.drip, bad.endless])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_that_never_end_are_errors_within_the_bound(kind, behaviour, store, no_credentials):
    store.always = behaviour
    with pytest.raises(RemoteError, match=NAME):
        read(opened(kind, store, no_credentials, 0.6))


def test_redirections_are_followed_and_what_is_there_is_checked(store, objects):
    with bad.misbehaving({NAME: DATA}) as other:
        store.always = bad.redirect(other.url)
        assert read(objects) == EXPECTED
        assert len(other.asked) == 1
        other.objects[NAME] = DATA[::-1]
        with pytest.raises(RemoteError, match="open it again"):
            read(objects)


def test_redirections_in_a_circle_are_errors(store, objects):
    store.always = bad.redirect(store.url)
    with pytest.raises(RemoteError, match="redirects in a circle"):
        read(objects)


def test_signatures_do_not_follow_redirections(store, no_credentials):
    no_credentials.setenv("AWS_ACCESS_KEY_ID", "AKID")
    no_credentials.setenv("AWS_SECRET_ACCESS_KEY", "key")
    with bad.misbehaving({NAME: DATA}) as other:
        store.always = bad.redirect(other.url)
        assert read(opened("s3", store, no_credentials)) == EXPECTED
        assert "authorization" in store.asked[0].headers
        assert "authorization" not in other.asked[0].headers


@pytest.mark.parametrize("number", [301, 302, 307, 308])
def test_writes_are_not_redirected(number, store, no_credentials):
    with bad.misbehaving({NAME: DATA}) as other:
        store.always = bad.redirect(other.url, number)
        with pytest.raises(RemoteError, match=str(number)):
            opened("s3", store, no_credentials).put(NAME, b"new")
        assert other.asked == []


# What obstore says where these tests have no server for it: certificates, names, and https.
TOLD = {
    "InvalidCertificate(UnknownIssuer)": ("final", "certificate is not trusted"),
    "kind: Redirect, source: Builder { source: BadScheme }": ("final", "plain http"),
    'ConnectError("dns error", failed to lookup address information)': ("unknown", "host is unk"),
    "Server returned non-2xx status code: 507 Insufficient Storage: ": ("final", "507"),
    "something else": ("doubtful", "not valid"),
}


@pytest.mark.parametrize("text", TOLD)
def test_words_of_obstore(text):
    kind, reason = TOLD[text]
    found = failure_of(RuntimeError(f"Generic S3 error: {text}"))
    assert found.kind == kind
    assert reason in found.reason

"""The bucket in memory keeps the conditions of S3."""

from __future__ import annotations

import pytest

from llmdeploy.state.bucket import Bucket, Conflict
from llmdeploy.testing.effects import Effects, PowerCut
from llmdeploy.testing.memory_bucket import MemoryBucket


def test_writes_are_conditional() -> None:
    bucket: Bucket = MemoryBucket()
    etag = bucket.put("k", b"one", if_match=None)
    with pytest.raises(Conflict):
        bucket.put("k", b"two", if_match=None)
    with pytest.raises(Conflict):
        bucket.put("k", b"two", if_match='"other"')
    fresh = bucket.put("k", b"two", if_match=etag)
    with pytest.raises(Conflict):
        bucket.delete("k", if_match=etag)
    bucket.delete("k", if_match=fresh)
    bucket.delete("k", if_match=fresh)
    assert bucket.get("k") is None
    assert bucket.put("k", b"one", if_match=None) == etag, "equal content has an equal ETag, as in S3"


def test_age_is_by_the_clock_of_the_service() -> None:
    bucket = MemoryBucket()
    bucket.put("k", b"one", if_match=None)
    bucket.advance(300)
    found = bucket.get("k")
    assert found
    assert 300 <= found.age_s < 400


def test_a_write_may_be_done_when_its_client_dies() -> None:
    for cut_at, content in ((1, {}), (2, {"k": b"one"})):
        bucket = MemoryBucket(Effects(cut_at))
        with pytest.raises(PowerCut):
            bucket.put("k", b"one", if_match=None)
        assert bucket.content() == content
        with pytest.raises(PowerCut):
            bucket.delete("k", if_match="")


def test_two_doors_lead_to_one_bucket_and_a_copy_is_apart() -> None:
    bucket = MemoryBucket()
    other, copy = bucket.door(Effects()), bucket.copy()
    other.put("k", b"one", if_match=None)
    assert (bucket.content(), copy.content()) == ({"k": b"one"}, {})

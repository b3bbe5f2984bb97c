"""What tests say about errors."""

import contextlib

import botocore.exceptions
import pytest


@contextlib.contextmanager
def refused(code, status=None):
    """The block must be refused with this S3 error code (or, where an answer has no body, its status as text)."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        yield caught
    answer = caught.value.response
    assert answer["Error"]["Code"] == code, answer
    if status is not None:
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status, answer

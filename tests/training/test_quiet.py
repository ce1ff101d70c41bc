from __future__ import annotations

import logging
import warnings

import pytest

from audioml.training.quiet import quiet


def test_named_loggers_and_matching_warnings_are_silent_in_the_block_only(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("chatty")
    logger.setLevel(logging.INFO)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quiet(["chatty"], ["tip:"]):
            logger.info("inside")
            logger.error("fault")
            warnings.warn("tip: use workers", stacklevel=1)
            warnings.warn("danger", stacklevel=1)
        logger.info("after")
        warnings.warn("tip: again", stacklevel=1)
    assert caplog.messages == ["fault", "after"]
    assert [str(warning.message) for warning in seen] == ["danger", "tip: again"]

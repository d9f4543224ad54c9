from __future__ import annotations

import pytest

from asr.errors import RenamedWarning, UserError
from serve import builder, deployed


def test_a_serve_config_file_of_the_version_before_was_not_found() -> None:
    args = {"model": "builtin:tiny.en", "exposed": True, "cpus_each": 1}
    with pytest.warns(RenamedWarning, match="now called serve.builder:application"):
        application = deployed.application(args)
    assert type(application) is type(builder.application(args))


def test_its_mistakes_are_told_as_before() -> None:
    with pytest.warns(RenamedWarning), pytest.raises(UserError, match="on a cluster that is Serve's"):
        deployed.application({"port": 80})

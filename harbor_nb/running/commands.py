"""A config as the `harbor run` line and the YAML that mean the same."""

import shlex
from collections.abc import Mapping
from typing import Any

from harbor_nb.running.configs import validated


def equivalent(config: Mapping[str, Any]) -> str:
    """Give the `harbor run` line of a config; one that options can't say is run from its YAML."""
    return shlex.join(["harbor", "run", "-c", f"{config['job_name']}.yaml"])


def as_yaml(config: Mapping[str, Any]) -> str:
    """Give a config as the YAML that `harbor run -c` takes; secrets stand as `${NAME}`."""
    import yaml

    data = validated(config).model_dump(mode="json", exclude_defaults=True) | {"job_name": config["job_name"]}
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))  # type: ignore[no-untyped-call] # PyYAML

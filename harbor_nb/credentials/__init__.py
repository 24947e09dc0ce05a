"""`.env` in, a table without values out: which keys are in force, and where each comes from."""

from harbor_nb.credentials._loading import Credentials, load_env, stored_names
from harbor_nb.credentials._writing import env_example, save_env

__all__ = ["Credentials", "env_example", "load_env", "save_env", "stored_names"]

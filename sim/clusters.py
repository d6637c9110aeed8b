"""Where the tasks of a sweep run: in processes of this machine, or on a Dask or Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mnpo.choices import choose

#: Backends, and the package that each needs.
BACKENDS = {"local": "joblib", "dask": "distributed", "ray": "ray"}


def check_backend(backend: str) -> None:
    """Refuse a backend that is not known or not installed, before any work is done.

    Raises:
        ValueError: names the backend, and the package that is missing.
    """
    from importlib.util import find_spec

    package = choose(backend, BACKENDS, "backend")
    if find_spec(package) is None:
        raise ValueError(f"backend {backend} is not installed (no package {package})")


@contextmanager
def cluster(backend: str, address: str | None) -> Iterator[None]:
    """Have joblib run its tasks on a backend while the block lasts.

    Args:
        backend: a name of `BACKENDS`.
        address: of a cluster's scheduler; without one Dask starts a local cluster.
    """
    from joblib import parallel_config

    if backend == "local":
        yield
        return
    try:
        if backend == "dask":
            from dask.distributed import Client
        else:
            import ray
            from ray.util.joblib import register_ray
    except ImportError as error:
        raise ValueError(f"backend {backend} is not installed ({error.name})") from None
    if backend == "dask":
        client: Any = Client
        scheduler = client(address) if address else client(processes=True, dashboard_address=None)
        with scheduler, parallel_config(backend="dask", scheduler_host=scheduler.scheduler.address):
            yield
        return
    ray.init(address=address, ignore_reinit_error=True)
    register_ray()
    with parallel_config(backend="ray"):
        yield

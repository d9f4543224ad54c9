from __future__ import annotations

import os

import ray

from cluster.ray_settings import ENVIRONMENT, LOCAL


def test_each_process_of_a_ray_that_we_start_has_them(ray_cluster: None) -> None:
    @ray.remote(num_cpus=0)
    def there() -> dict[str, str]:
        return dict(os.environ)

    assert all(name.startswith("RAY_") for name in ENVIRONMENT)
    assert ray.get(there.remote()).items() >= {**ENVIRONMENT, **LOCAL}.items()

"""The packages of a wheel. Beside ours it holds, as ``whisperfleet.project``, the pins and the configurations to copy.

All else is in pyproject.toml, which can name no package whose files lie in the folder of all packages.
"""

from setuptools import find_packages, setup

PACKAGES = ["asr*", "cluster*", "train*", "serve*", "whisperfleet*"]

setup(
    packages=[*find_packages(include=PACKAGES), "whisperfleet.project"],
    package_dir={"whisperfleet.project": "."},
    package_data={
        "whisperfleet.project": ["pyproject.toml", "constraints.txt", "configs/*.yaml"],
        "asr": ["scoring/*.j2", "py.typed"],
        "cluster": ["py.typed"],
        "serve": ["ingress/static/*", "py.typed"],
        "train": ["py.typed"],
        "whisperfleet": ["py.typed"],
    },
    exclude_package_data={"whisperfleet.project": ["*.py"]},
)

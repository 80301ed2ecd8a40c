"""Facts of the machine and of the software, to be kept beside the figures."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import zmq

LIBRARIES = ("gimmal", "pyzmq", "msgpack", "redis", "hiredis")


def machine_facts() -> dict[str, object]:
    """Return what a reader needs in order to judge absolute figures."""
    return {
        "cores": os.cpu_count(),
        "processor": processor(),
        "load_average_before": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libzmq": zmq.zmq_version(),
        "redis-server": redis_server_version(),
        **{name: version_of(name) for name in LIBRARIES},
    }


def processor() -> str:
    """Return the model name of the processor, or the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def version_of(library: str) -> str:
    """Return the installed version of a Python library."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def redis_server_version() -> str:
    """Return the version of redis-server, or that there is none."""
    executable = shutil.which("redis-server")
    if executable is None:
        return "not installed"
    answer = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True, timeout=10)
    words = answer.stdout.split()
    return next((word.removeprefix("v=") for word in words if word.startswith("v=")), answer.stdout.strip())

"""A JupyterLab of the tests' own, on a copy of the notebooks, and a browser to look at it."""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from conftest import ROOT

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
SETTINGS = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },  # a question would cover the page
    "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings": {
        "autosave": False
    },  # the next test opens the lesson as it was committed
}


class Server(NamedTuple):
    """A JupyterLab that runs: where it answers, its token, and the folder it shows."""

    url: str
    token: str
    root: Path


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's executable. What is missing is said before anything starts."""
    pytest.importorskip("playwright.sync_api", reason="Playwright is missing: python -m pip install playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or pytest.skip(
        "Chromium is missing: apt-get install chromium (or have chromium, chromium-browser or google-chrome on the PATH)"
    )


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def answers(port: int) -> bool:
    """Whether a web server answers there."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/api")
        except OSError:
            return False
        return connection.getresponse().status == 200


def stop(process: subprocess.Popen):
    """End a server and the kernels it started, which are in sessions of their own."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    for left in psutil.wait_procs(family, timeout=10)[1]:
        left.kill()
    process.wait()


@pytest.fixture(scope="session")
def server(chromium, cache, tmp_path_factory):
    """JupyterLab as it is when just installed: nobody's settings, and a copy of the notebooks, so that committed
    ones never change."""
    home, port, token = tmp_path_factory.mktemp("jupyter"), free_port(), secrets.token_hex(16)
    shutil.copytree(ROOT / "nbs", home / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name, content in SETTINGS.items():
        (home / "settings" / name).parent.mkdir(parents=True)
        (home / "settings" / name).write_text(json.dumps(content))
    folders = dict(
        JUPYTER_CONFIG_DIR="config",
        JUPYTER_DATA_DIR="data",
        JUPYTER_RUNTIME_DIR="runtime",
        JUPYTERLAB_SETTINGS_DIR="settings",
        JUPYTERLAB_WORKSPACES_DIR="workspaces",
        IPYTHONDIR="ipython",
    )
    environment = (
        {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
        | {name: str(home / folder) for name, folder in folders.items()}
        | {"PYTHONPATH": str(ROOT)}
    )
    arguments = [
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={home / 'nbs'}",
        f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
    ]
    with open(home / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments], cwd=home, env=environment, stdout=log, stderr=log
        )
    try:
        while not answers(port):
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.1)
        yield Server(f"http://127.0.0.1:{port}", token, home / "nbs")
    finally:
        stop(process)


@pytest.fixture(scope="module")
def browser(chromium):
    """A headless Chromium.

    No longer than a module: while Playwright runs, asyncio in this process believes that it is running too.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()

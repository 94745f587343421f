"""A Hugging Face Hub of our own on loopback: the endpoints that huggingface_hub 2.4 calls, for tests.

    with HubServer(tmp_path) as hub:
        subprocess.run([sys.executable, "-c", code], env=hub.environment(token=OWNER, home=tmp_path / "home"))

`code` then creates repositories, uploads, and runs `load_dataset` and `from_pretrained` as against the real Hub. The
state lies in a folder: every file's bytes under `objects/<sha256>`, every repository as one JSON file with its commits:

    repos/datasets/org/name.json
    {"id": "org/name", "type": "dataset", "private": false, "branches": {"main": "3f1c..."}, "tags": {},
     "commits": {"3f1c...": {"parent": null, "title": "initial commit", "date": "...",
                             "files": {"data/a.parquet": {"sha256": "...", "size": 9, "blob": "...", "lfs": true}}}}}

`hub.fault("PUT /lfs", "cut", times=1)` breaks the next such request off in the middle of its body; a number in the
place of "cut" is answered as status. Large files go by LFS, single or in parts; Xet is left out, and the client told so
by HF_HUB_DISABLE_XET. Refusals are the real Hub's: 401 for a token it does not know, 401 RepoNotFound for a private
repository without one, 403 where the token may not write.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_endpoints import OWNER, READER, ROUTES, STRANGER, Endpoints, Refused

_RESOLVE = "/{repo_id}/resolve/{revision}/{filename}"

__all__ = ["OWNER", "READER", "STRANGER", "HubServer"]


class HubServer:
    """The server in a thread of its own.

    Args:
        folder: Where the state lies; a second server on the same folder goes on with it.
        part_size: LFS files larger than this are uploaded in parts of this size.

    Attributes:
        requests: ("GET", path, status) of every request, in their order.
        received: Bytes of LFS uploads that arrived whole, by object.
    """

    def __init__(self, folder: str | Path, part_size: int = 5 * 2**20) -> None:
        self.folder, self.part_size = Path(folder), part_size
        self.requests: list[tuple[str, str, int]] = []
        self.received: Counter[str] = Counter()
        self.lock = threading.RLock()
        self.fault_message = "planted fault"
        self._faults: list[list[Any]] = []
        for name in ("objects", "parts", "repos"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> HubServer:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def cdn(self) -> str:
        """Where large files are downloaded from: as on the real Hub, another host, which gets no token."""
        return f"http://localhost:{self._server.server_port}/cdn"

    def environment(self, token: str | None = None, home: str | Path | None = None) -> dict[str, str]:
        """The environment of a process whose Hub this server is."""
        left_out = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN"}
        env = {name: value for name, value in os.environ.items() if name not in left_out}
        env |= {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        env |= {"NO_PROXY": "127.0.0.1,localhost", "HF_HOME": str(home or self.folder / "home")}
        return env | ({"HF_TOKEN": token} if token else {})

    def patch_client(self, monkeypatch: Any, token: str | None = None) -> None:
        """Turns this process's huggingface_hub to the server, without waiting between its tries.

        For its own functions and what `transformers` loads; `datasets` keeps copies of the endpoint and wants a process
        of its own.
        """
        from huggingface_hub import constants, hf_api
        from huggingface_hub.utils import _http

        urls = {"ENDPOINT": self.url, "HUGGINGFACE_CO_URL_TEMPLATE": self.url + _RESOLVE}
        others = {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(self.folder / "cache")}
        for name, value in (urls | others).items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", self.url)  # the one behind huggingface_hub's plain functions
        if library := sys.modules.get("transformers.utils.hub"):  # which makes one of its own, and keeps it
            monkeypatch.setattr(library, "_hf_api", None)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(self.folder / "no-token"))
        monkeypatch.setattr(_http.time, "sleep", lambda _: None)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)

    def fault(self, what: str, kind: int | str, times: int = 1) -> None:
        """The next `times` requests that begin with `what` ("PUT /lfs") are answered with a status, or "cut"."""
        self._faults.append([what, kind, times])

    def clear_faults(self) -> None:
        self._faults.clear()

    def drawn(self, line: str) -> int | str | None:
        """The fault of a request, if it is to have one."""
        with self.lock:
            for fault in self._faults:
                if fault[2] and line.startswith(fault[0]):
                    fault[2] -= 1
                    return fault[1]
        return None

    def files(self, repo_id: str, kind: str = "dataset", revision: str = "main") -> dict[str, Any]:
        """The files of a repository at a revision, as its JSON describes them."""
        repo = self.repo(kind, repo_id)
        return repo["commits"][self.resolve(repo, revision)]["files"]

    def read(self, repo_id: str, path: str, kind: str = "dataset", revision: str = "main") -> bytes:
        """A file's bytes."""
        return (self.folder / "objects" / self.files(repo_id, kind, revision)[path]["sha256"]).read_bytes()

    def repo(self, kind: str, repo_id: str) -> dict[str, Any]:
        """A repository's JSON."""
        try:
            return json.loads((self.folder / "repos" / f"{kind}s" / f"{repo_id}.json").read_text())
        except FileNotFoundError:
            raise Refused(404, "Repository not found", "RepoNotFound") from None

    def save(self, repo: dict[str, Any]) -> None:
        path = self.folder / "repos" / f"{repo['type']}s" / f"{repo['id']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(repo))
        partial.replace(path)

    def resolve(self, repo: dict[str, Any], revision: str) -> str:
        """The commit of a branch, a tag or a commit's own name or beginning."""
        name = revision.removeprefix("refs/heads/")
        if found := repo["branches"].get(name) or repo["tags"].get(name):
            return found
        if re.fullmatch("[0-9a-f]{7,40}", name) and (found := [c for c in repo["commits"] if c.startswith(name)]):
            return found[0]
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def keep(self, content: bytes) -> str:
        """Stores an object; returns its SHA-256."""
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "objects" / digest).write_bytes(content)
        return digest

    def commit(self, repo: dict[str, Any], branch: str, title: str, files: dict[str, Any]) -> str:
        """Adds a commit and moves the branch."""
        parent = repo["branches"].get(branch)
        content = json.dumps([repo["type"], repo["id"], parent, title, files, len(repo["commits"])])
        name = hashlib.sha1(content.encode()).hexdigest()
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        repo["commits"][name] = {"parent": parent, "title": title, "date": date, "files": files}
        repo["branches"][branch] = name
        self.save(repo)
        return name


class _Handler(Endpoints, BaseHTTPRequestHandler):
    """One connection; `hub` is set by the server."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        line = f"{self.command} {url.path}"
        self.fate = self.hub.drawn(line)
        try:
            body = self._body()
            if isinstance(self.fate, int):
                raise Refused(self.fate, self.hub.fault_message)
            for pattern, name in ROUTES:
                if match := re.fullmatch(pattern, line):
                    fields = {key: value and unquote(value) for key, value in match.groupdict().items()}
                    if "kind" in fields:
                        fields["kind"] = fields["kind"] or "model"
                    self.user = self._user()
                    with self.hub.lock:
                        answer = getattr(self, name)(body=body, **fields)
                    self._send(*answer)
                    return
            raise Refused(404, "no such endpoint here")
        except Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self._send(refused.status, {"error": refused.message}, {k: v for k, v in headers.items() if v})
        except ConnectionError:
            self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        if self.fate == "cut" and length:
            self.rfile.read(length // 2)
            self.connection.close()
            raise ConnectionResetError
        return self.rfile.read(length)

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self.hub.requests.append((self.command, urlsplit(self.path).path, status))
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        with suppress(ConnectionError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                half = self.fate == "cut"
                self.wfile.write(data[: len(data) // 2] if half else data)
                self.close_connection = self.close_connection or half

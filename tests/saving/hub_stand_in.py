"""A hub on this machine: what huggingface_hub asks of one for models of small and of large files (LFS), in memory."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """A model: what each commit holds, by its hash, the last one last."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str) -> str:
        sha = hashlib.sha1(repr((sorted(files.items()), len(self.commits))).encode()).hexdigest()
        self.commits[sha] = files
        self.messages.append(message)
        return sha

    @property
    def last(self) -> str:
        return list(self.commits)[-1]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.last]


class Hub(ThreadingHTTPServer):
    """Listens on a port of its own; `repositories` by name, `asked` has a line of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _handle(self) -> None:
        path = self.path.partition("?")[0]
        body = self._body()
        self.server.asked.append(f"{self.command} {path}")
        knows = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command not in ("GET", "HEAD", "PUT") and not knows:
            return self._answer({"error": "Invalid username or password."}, 401)
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            said = json.loads(body)
            name = f"{said['organization']}/{said['name']}"
            there = name in self.server.repositories
            self.server.repositories.setdefault(name, Repository(said.get("visibility") == "private"))
            return self._answer({"url": f"{self.server.url}/{name}"}, 409 if there else 200)
        if found := re.fullmatch(r"/large/(\w+)", path):
            self.server.large[found[1]] = body
            return self._answer({})
        name = re.sub(r"^/(api/models/)?", "", path).removesuffix(".git/info/lfs/objects/batch")
        name = "/".join(name.split("/")[:2])
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not knows):
            return self._answer({"error": "Repository not found"}, 404 if knows else 401, X_Error_Code="RepoNotFound")
        if path.endswith("/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.url}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self._answer({"objects": objects})
        rest = path.partition(f"{name}/")[2]
        action, _, rest = rest.partition("/")
        if action == "preupload":
            return self._answer({"files": [
                {"path": one["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular"}
                for one in json.loads(body)["files"]
            ]})  # fmt: skip
        if action == "commit":
            sha = self._commit(repository, [json.loads(line) for line in body.splitlines()])
            return self._answer({"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha})
        revision, _, file = rest.partition("/")
        if action not in ("", "revision", "tree", "resolve"):
            return self._answer({"error": f"unknown to the stand-in: {path}"}, 501)
        sha = repository.last if revision in ("", "main") else revision
        if sha not in repository.commits:
            return self._answer({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
        files = repository.commits[sha]
        if action == "tree":
            return self._answer([
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ])  # fmt: skip
        if action == "resolve":
            content = files[file]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self._answer(content, ETag=etag, X_Repo_Commit=sha)
        siblings = [{"rfilename": file} for file in files]
        return self._answer({"id": name, "sha": sha, "private": repository.private, "siblings": siblings})

    def _commit(self, repository: Repository, lines: list[dict[str, Any]]) -> str:
        files, message = dict(repository.files), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        return repository.commit(files, message)

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815

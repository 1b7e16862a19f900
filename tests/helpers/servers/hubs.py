"""A server that speaks what huggingface_hub needs of the Hub to create a model, to upload it and to load it again."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_SecretOfTheTests"  # no real one


class Hub:
    """Models by their names: `private`, and the files by theirs. `refused` are owners that are somebody else's."""

    def __init__(self):
        self.models, self.requests, self.refused = {}, [], set()

    def model(self, name, private=False, **files):
        self.models[name] = SimpleNamespace(private=private, files=dict(files))
        return self.models[name]


def handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status, body=b"", **headers):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def refuse(self, status, code):
            self.answer(status, {"error": code}, X_Error_Code=code)

        def body(self):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        @property
        def parts(self):
            return unquote(urlsplit(self.path).path).strip("/").split("/")

        def known(self):
            hub.requests.append((self.command, self.path))
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def do_GET(self):
            match self.parts:
                case ["api", "whoami-v2"]:
                    self.answer(200, {"name": "me", "type": "user"}) if self.known() else self.refuse(401, "Bad token")
                case ["api", "models", owner, name, *rest]:
                    self.known()
                    found = hub.models.get(f"{owner}/{name}")
                    if found is None:
                        self.refuse(404, "RepoNotFound")
                    elif rest[:1] == ["tree"]:
                        self.answer(200, [described(path, content) for path, content in found.files.items()])
                    else:
                        files = [{"rfilename": path} for path in found.files]
                        about = {"id": f"{owner}/{name}", "private": found.private, "sha": "1" * 40, "siblings": files}
                        self.answer(200, about)
                case [owner, name, "resolve", _, *path]:
                    self.known()
                    found = hub.models.get(f"{owner}/{name}")
                    content = found and found.files.get("/".join(path))
                    if content is None:
                        self.refuse(404, "EntryNotFound" if found else "RepoNotFound")
                    else:
                        digest = hashlib.sha1(content).hexdigest()
                        self.answer(200, content, ETag=f'"{digest}"', X_Repo_Commit="1" * 40)
                case _:
                    self.refuse(404, "no such page")

        def do_HEAD(self):
            self.do_GET()

        def do_POST(self):
            sent = self.body()
            if not self.known():
                self.refuse(401, "Bad token")
                return
            match self.parts:
                case ["api", "repos", "create"]:
                    asked = json.loads(sent)
                    name = f"{asked['organization']}/{asked['name']}"
                    status = 409 if name in hub.models else 200
                    if asked["organization"] in hub.refused:
                        self.refuse(403, f"no right to create models of {asked['organization']}")
                        return
                    if status == 200:
                        hub.model(name, private=asked.get("visibility") == "private")
                    self.answer(status, {"url": f"http://{self.headers['Host']}/{name}", "name": name})
                case ["api", "validate-yaml"]:
                    _, front, _ = json.loads(sent)["content"].split("---\n", 2)
                    assert isinstance(yaml.safe_load(front), dict)
                    self.answer(200, {"errors": [], "warnings": []})
                case ["api", "models", _, _, "preupload", "main"]:
                    names = [file["path"] for file in json.loads(sent)["files"]]
                    how = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                    self.answer(200, {"files": how})
                case ["api", "models", owner, name, "commit", "main"]:
                    for line in map(json.loads, sent.decode().splitlines()):
                        if line["key"] == "file":
                            content = base64.b64decode(line["value"]["content"])
                            hub.models[f"{owner}/{name}"].files[line["value"]["path"]] = content
                    address = f"http://{self.headers['Host']}/{owner}/{name}/commit/{'1' * 40}"
                    self.answer(200, {"success": True, "commitUrl": address, "commitOid": "1" * 40})
                case _:
                    self.refuse(404, "no such page")

        def log_message(self, *_):
            pass

    return Handler


def described(path, content):
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def hub_server():
    """Yield the hub and its address, until the end."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

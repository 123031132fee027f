#!/usr/bin/env python3
"""scripts/fetch-data against a server on this machine that serves, cuts, stalls and lies.

check_fetch_data.py SOURCE FOLDER: SOURCE is the source's root; everything is written to FOLDER.
"""
from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile

BODY = bytes(range(256)) * 2000     # a file that needs no unpacking
ASKED: list[tuple[str, str | None, str]] = []   # path, Range and User-Agent of each request
SERVED: dict[str, bytes] = {"/body": BODY}


class Server(http.server.BaseHTTPRequestHandler):
    """/KIND/NAME serves NAME in the way of KIND; /NAME serves it well."""

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, code: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        before = sum(path == self.path for path, _, _ in ASKED)
        span = self.headers.get("Range")
        ASKED.append((self.path, span, self.headers["User-Agent"]))
        kind, _, name = self.path[1:].rpartition("/")
        body = SERVED.get("/" + name)
        begin = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        if body is None:
            self.reply(404)
        elif kind == "busy" or (kind == "busy_once" and before == 0):
            self.reply(503, Retry_After="0")
        elif kind in ("cut", "cut_anew") and before == 0:
            self.reply(200, body[:len(body) // 2], len(body))
        elif kind == "other_bytes" and span:
            self.reply(206, body, Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}")
        elif kind == "cut_anew" or not span:
            self.reply(200, body)
        elif begin >= len(body):
            self.reply(416, Content_Range=f"bytes */{len(body)}")
        else:
            self.reply(206, body[begin:], Content_Range=f"bytes {begin}-{len(body) - 1}/{len(body)}")


class Check:
    def __init__(self, source: pathlib.Path, folder: pathlib.Path, address: str):
        self.source, self.folder, self.address = source, folder, address
        self.count = 0

    def serve(self, name: str, body: bytes) -> str:
        SERVED["/" + name] = body
        return "/" + name

    def file(self, path: str, body: bytes | None = None, **more: object) -> dict[str, object]:
        """A record of a file at that path of the server, or at that address."""
        urls = [url if "://" in url else self.address + url for url in path.split()]
        body = SERVED["/" + path.split()[-1].rpartition("/")[2]] if body is None else body
        digest = hashlib.sha256(body).hexdigest()
        return {"urls": urls, "sha256": digest, "bytes": len(body), "sum_source": "here", **more}

    def run(self, *files: dict[str, object], fresh: bool = True, ready: dict[str, bytes] = {}) -> tuple[int, str]:
        """Fetches a set of these files; self.set is its folder. ready: what lies there already."""
        if fresh:
            self.count += 1
            self.set = self.folder / f"data{self.count}" / "tiny"
            self.set.mkdir(parents=True)
        for name, body in ready.items():
            (self.set / name).write_bytes(body)
        table = self.folder / "table.json"
        table.write_text(json.dumps([{"name": "tiny", "what": "a few bytes", "use": "a test", "licence": "none",
                                      "format": "cifar", "options": "labels: cifar10", "layout": "", "files": files}]))
        ASKED.clear()
        return self.program("--table", table, "--pause", "0.01", "tiny", self.set.parent)

    def program(self, *words: object) -> tuple[int, str]:
        done = subprocess.run([sys.executable, self.source / "scripts" / "fetch-data", *map(str, words)],
                              capture_output=True, text=True, timeout=60)
        text = done.stdout + done.stderr
        assert "Traceback" not in text, text
        return done.returncode, text

    def there(self) -> set[str]:
        return {str(p.relative_to(self.set)) for p in self.set.rglob("*") if not p.is_dir()}


def tar(members: dict[str, bytes | str]) -> bytes:
    """A tar file; a member whose content is text is a symbolic link to it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname, content = tarfile.SYMTYPE, content, b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(members: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.filename = name
            info.external_attr = (0o120777 if isinstance(content, str) else 0o100644) << 16
            archive.writestr(info, content)
    return out.getvalue()


MEMBERS: dict[str, bytes | str] = {"set/a.bin": b"a" * 1000, "set/deep/b.bin": b"b"}


def check_archives(c: Check) -> None:
    shapes = {"set.tar.gz": (gzip.compress(tar(MEMBERS)), {"unpack": "tar"}),
              "set.tar.bz2": (bz2.compress(tar(MEMBERS)), {"unpack": "tar"}),
              "set.zip": (zipped(MEMBERS), {"unpack": "zip"}),
              "outer.zip": (zipped({"x/readme": b"r", "x/inner.zip": zipped(MEMBERS)}),
                            {"unpack": "zip", "inner": "x/inner.zip"})}
    if shutil.which("bsdtar"):
        made = c.folder / "seven"
        for name, content in MEMBERS.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_bytes(content)
        subprocess.run(["bsdtar", "-c", "--format", "7zip", "-f", c.folder / "set.7z", "-C", made, "set"], check=True)
        shapes["set.7z"] = ((c.folder / "set.7z").read_bytes(), {"unpack": "7z"})
    else:
        print("skipped: archives of 7-Zip, bsdtar is not installed")
    for name, (body, how) in shapes.items():
        file = c.file(c.serve(name, body), **how, into="in")
        rc, text = c.run(file, c.file("/body"))
        assert rc == 0, text
        assert c.there() == {"in/set/a.bin", "in/set/deep/b.bin", "body", ".fetched"}, c.there()
        assert (c.set / "in/set/a.bin").read_bytes() == MEMBERS["set/a.bin"]
        assert f"data: {{format: cifar, labels: cifar10, path: {c.set}}}" in text, text
        assert len(ASKED) == 2 and all("fedlane" in agent for _, _, agent in ASKED), ASKED
        rc, text = c.run(file, c.file("/body"), fresh=False)
        assert rc == 0 and "is there already" in text and not ASKED, (text, ASKED)


def check_resume(c: Check) -> None:
    half, size = len(BODY) // 2, len(BODY)
    for ready, kind, spans in (({}, "cut", [None, f"bytes={half}-"]),
                               ({}, "cut_anew", [None, f"bytes={half}-"]),
                               ({}, "busy_once", [None, None]),
                               ({"body.part": BODY[:1234]}, "well", ["bytes=1234-"]),
                               ({"body.part": BODY}, "well", []),
                               ({"body.part": BODY + b"more"}, "well", [f"bytes={size + 4}-", None]),
                               ({"body": BODY}, "well", [])):
        rc, text = c.run(c.file(f"/{kind}/body"), ready=ready)
        assert rc == 0, (kind, text)
        assert (c.set / "body").read_bytes() == BODY and c.there() == {"body", ".fetched"}, (kind, c.there())
        assert [span for _, span, _ in ASKED] == spans, (kind, ready.keys(), ASKED)
    # The size of some files is not known beforehand.
    file = c.file("/well/body")
    del file["bytes"]
    rc, text = c.run(file, ready={"body.part": BODY})
    assert rc == 0 and (c.set / "body").read_bytes() == BODY, text


def check_refusals(c: Check) -> None:
    rc, text = c.run(c.file("/body", b"x" * len(BODY), unpack="zip"))
    assert rc == 1 and hashlib.sha256(BODY).hexdigest() in text and "body.bad" in text, text
    assert c.there() == {"body.bad"} and (c.set / "body.bad").read_bytes() == BODY, c.there()

    rc, text = c.run(c.file("/nothing", b"x"))
    assert rc == 1 and "404" in text and not c.there() and len(ASKED) == 1, (text, ASKED)
    rc, text = c.run(c.file("/nothing /body"))
    assert rc == 0 and [path for path, _, _ in ASKED] == ["/nothing", "/body"], (text, ASKED)

    rc, text = c.run(c.file("/body", BODY[:10]))
    assert rc == 1 and f"offers {len(BODY)} bytes, not 10" in text and not c.there(), text
    rc, text = c.run(c.file("/other_bytes/body"), ready={"body.part": BODY[:99]})
    assert rc == 1 and "other bytes" in text and (c.set / "body.part").read_bytes() == BODY[:99], text
    rc, text = c.run(c.file("/busy/body"))
    assert rc == 1 and "503" in text and "6 tries" in text and len(ASKED) == 6, (text, ASKED)

    with socket.socket() as s:  # a port at which nobody listens
        s.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{s.getsockname()[1]}/body"
    rc, text = c.run(c.file(nowhere, BODY), ready={"body.part": BODY[:7]})
    assert rc == 1 and "offline" in text and "is kept" in text, text
    assert (c.set / "body.part").read_bytes() == BODY[:7]

    c.count += 1
    c.set = c.folder / f"data{c.count}" / "tiny"
    c.set.mkdir(parents=True)
    (c.set / "body.part").symlink_to("/dev/full")
    rc, text = c.run(c.file("/body"), fresh=False)
    assert rc == 1 and "full" in text and "is kept" in text, text


def check_hostile(c: Check) -> None:
    """Paths that lead out of the folder, links, and archives that break off."""
    evil, link = b"evil", "/etc"
    archives = {"up.tar": tar({"ok": b"1", "../up": evil}), "root.tar": tar({"/tmp/fedlane-root": evil}),
                "link.tar": tar({"l": link, "l/up": evil}), "up.zip": zipped({"ok": b"1", "x/../../up": evil}),
                "back.zip": zipped({"x\\..\\..\\up": evil}), "drive.zip": zipped({"C:\\up": evil}),
                "link.zip": zipped({"l": link})}
    for name, body in archives.items():
        rc, text = c.run(c.file(c.serve(name, body), unpack=name.partition(".")[2]))
        assert rc == 1 and ("leads out" in text or "neither file nor folder" in text), (name, text)
        assert c.there() <= {"ok", name}, (name, c.there())
        assert not (c.set.parent / "up").exists() and not (c.set.parent.parent / "up").exists(), name
    assert not pathlib.Path("/tmp/fedlane-root").exists()
    whole = {"cut.tar.gz": gzip.compress(tar(MEMBERS)), "cut.tar.bz2": bz2.compress(tar(MEMBERS)),
             "cut.zip": zipped(MEMBERS), "page.tar": b"<html>please log in</html>", "page.zip": b"<html></html>"}
    for name, body in whole.items():
        body = body[:len(body) * 2 // 3] if name.startswith("cut") else body
        rc, text = c.run(c.file(c.serve(name, body), unpack="zip" if name.endswith("zip") else "tar"))
        assert rc == 1 and "damaged" in text and ".fetched" not in c.there(), (name, text)


def check_table(c: Check) -> None:
    """The project's own records, and how the program is called."""
    table = json.loads((c.source / "scripts" / "data-sets.json").read_text())
    rc, text = c.program()
    guide = (c.source / "docs" / "data.md").read_text()
    names = [record["name"] for record in table]
    assert rc == 0 and len(set(names)) == len(names), text
    for record in table:
        assert f"{record['name']}: " in text and record["licence"] in text, record
        assert f"fetch-data {record['name']}`" in guide, f"docs/data.md does not name {record['name']}"
        assert all(record[key] for key in ("what", "use", "format", "layout", "files")), record
        for file in record["files"]:
            assert re.fullmatch("[0-9a-f]{64}", file["sha256"]) and file["sum_source"], file
            assert all(url.startswith("https://") for url in file["urls"]), file
            assert file.get("unpack") in (None, "tar", "zip", "7z"), file
            known = {"urls", "sha256", "bytes", "sum_source", "unpack", "inner", "into"}
            assert file.keys() <= known, file.keys() - known
    rc, text = c.program("cifar1", c.folder)
    assert rc == 2 and "did you mean 'cifar10'" in text, text
    rc, text = c.program("--table", c.folder / "absent.json")
    assert rc == 2 and "absent.json" in text, text


def main() -> None:
    source, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with contextlib.closing(server.socket):
        c = Check(source, folder, f"http://127.0.0.1:{server.server_address[1]}")
        for check in (check_archives, check_resume, check_refusals, check_hostile, check_table):
            check(c)
        server.shutdown()
    print("fetch-data downloads, goes on after cuts, checks sums, and refuses hostile and damaged archives")


if __name__ == "__main__":
    main()

"""The scratch folder of the fleet, `${SHARED}`: sample data, a throw-away PostgreSQL and a small web server.

Everything is written anew on each run, so every probe of fleet.json has one right answer. PostgreSQL listens only on
a Unix socket in the folder, the web server on a free port of 127.0.0.1. Standard library only; Linux.
"""

import glob
import json
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def small_pdf(text):
    """A one-page PDF that shows text."""
    draw = f"BT /F1 18 Tf 20 40 Td ({text}) Tj ET"
    bodies = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 100] "
        "/Resources << /Font << /F1 5 0 R >> >> /Contents 4 0 R >>",
        f"<< /Length {len(draw)} >>\nstream\n{draw}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, at = "%PDF-1.4\n", []
    for n, body in enumerate(bodies, 1):
        at.append(len(out))
        out += f"{n} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in at)
    return (f"{out}xref\n0 {len(at) + 1}\n0000000000 65535 f \n{table}"
            f"trailer\n<< /Size {len(at) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n")


def office_file(path, kind, parts):
    """A minimal .docx or .xlsx: a zip of XML parts; the first part is the document itself."""
    base = "http://schemas.openxmlformats.org"
    types = "".join(f'<Override PartName="/{name}" ContentType="application/vnd.openxmlformats-officedocument.'
                    f'{content}+xml"/>' for name, content, _ in parts if content)
    rels = (f'<Relationships xmlns="{base}/package/2006/relationships"><Relationship Id="rId1" Type="{base}/'
            f'officeDocument/2006/relationships/%s" Target="%s"/></Relationships>')
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("[Content_Types].xml",
                   f'<Types xmlns="{base}/package/2006/content-types"><Default Extension="rels" ContentType='
                   f'"application/vnd.openxmlformats-package.relationships+xml"/>{types}</Types>')
        z.writestr("_rels/.rels", rels % ("officeDocument", parts[0][0]))
        if kind == "xlsx":
            z.writestr("xl/_rels/workbook.xml.rels", rels % ("worksheet", "worksheets/sheet1.xml"))
        for name, _, xml in parts:
            z.writestr(name, xml)


def prepare(shared):
    """Writes the sample data into an empty folder."""
    for name in ("home", "tmp"):
        os.makedirs(os.path.join(shared, name), exist_ok=True)
    files = os.path.join(shared, "files")
    page = ("<html><head><title>Fleet</title></head><body><h1>Hello fleet</h1>"
            "<p>This page was served on <b>loopback</b>.</p></body></html>\n")
    write(f"{files}/hello.txt", "hello fleet\nsecond line\n")
    write(f"{files}/hello.pdf", small_pdf("hello fleet pdf"))
    write(f"{files}/page.html", page)
    write(f"{shared}/www/page.html", page)
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    sheet = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office_file(f"{files}/hello.docx", "docx", [
        ("word/document.xml", "wordprocessingml.document.main",
         f'<w:document xmlns:w="{word}"><w:body><w:p><w:r><w:t>hello fleet docx</w:t></w:r></w:p></w:body></w:document>')])
    office_file(f"{files}/hello.xlsx", "xlsx", [
        ("xl/workbook.xml", "spreadsheetml.sheet.main",
         f'<workbook xmlns="{sheet}" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
         '<sheets><sheet name="Fleet" sheetId="1" r:id="rId1"/></sheets></workbook>'),
        ("xl/worksheets/sheet1.xml", "spreadsheetml.worksheet",
         f'<worksheet xmlns="{sheet}"><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>hello fleet xlsx</t></is></c>'
         '<c r="B1"><v>42</v></c></row></sheetData></worksheet>')])

    write(f"{shared}/lint/eslint.config.mjs",
          'export default [{ files: ["**/*.js"], rules: { "no-unused-vars": "error" } }];\n')
    write(f"{shared}/lint/bad.js", "const unused = 1;\n")
    write(f"{shared}/memory.jsonl", json.dumps(
        {"type": "entity", "name": "edge", "entityType": "proxy", "observations": ["built on pingora"]}) + "\n")
    write(f"{shared}/tasks/tasks.json", json.dumps({"tasks": [
        {"id": "8904cc53-5d7d-4334-8dd7-20c2ed45ee1c", "name": "write the probe", "status": "pending",
         "description": "call one tool of every server", "dependencies": [],
         "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z"}]}))

    db = sqlite3.connect(f"{shared}/fleet.db")
    db.executescript(TABLE)
    db.close()

    who = {"NAME": "fleet", "EMAIL": "fleet@example.org", "DATE": "2026-01-01T00:00:00Z"}
    env = {"PATH": os.environ["PATH"], "HOME": f"{shared}/home", "GIT_CONFIG_NOSYSTEM": "1",
           **{f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}}
    write(f"{shared}/repo/README.md", "# The fleet\n")
    for args in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first commit of the fleet"]):
        subprocess.run(["git", "-C", f"{shared}/repo", *args], env=env, check=True)


TABLE = ("CREATE TABLE servers (name TEXT PRIMARY KEY, tools INTEGER);"
         "INSERT INTO servers VALUES ('files', 14), ('memory', 9), ('time', 2);")


def postgres_program(name):
    """The newest installed one; Debian keeps them out of PATH."""
    found = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    return max(found, key=lambda p: int(p.split("/")[4])) if found else shutil.which(name)


def start_postgres(family, shared):
    """A throw-away PostgreSQL on the Unix socket ${SHARED}/pg, with the database fleet."""
    home = f"{shared}/pg"
    os.makedirs(home)
    as_user = {"cwd": home, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
    if os.geteuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(home, user.pw_uid, user.pw_gid)
        as_user.update(user=user.pw_uid, group=user.pw_gid, extra_groups=[])
    if len(f"{home}/.s.PGSQL.5432") > 107:
        raise SystemExit(f"{home}: too long for a Unix socket; set TMPDIR to a shorter folder")
    done = subprocess.run([postgres_program("initdb"), "-D", f"{home}/data", "-U", "fleet", "-A", "trust", "-N",
                           "--no-locale", "-E", "UTF8"], capture_output=True, text=True, timeout=60, **as_user)
    if done.returncode:
        raise SystemExit("initdb: " + done.stderr.strip()[-400:])
    with open(f"{shared}/tmp/postgres.log", "w") as log:
        # SIGINT is its fast shutdown: it does not wait for clients
        server = family.spawn([postgres_program("postgres"), "-D", f"{home}/data", "-k", home, "-c",
                               "listen_addresses=", "-c", "fsync=off"], end=signal.SIGINT,
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_user)
    psql = [postgres_program("psql"), "-X", "-q", "-h", home, "-U", "fleet"]
    for database, sql in (("postgres", "CREATE DATABASE fleet"), ("fleet", TABLE)):
        until = time.monotonic() + 20
        while subprocess.run([*psql, "-d", database, "-c", sql], stdin=subprocess.DEVNULL,
                             stderr=subprocess.PIPE).returncode:
            if time.monotonic() > until or server.poll() is not None:
                raise SystemExit(f"PostgreSQL did not start: see {shared}/tmp/postgres.log")
            time.sleep(0.1)


def start_page_server(family, shared):
    """Serves ${SHARED}/www on a free loopback port, which is returned."""
    server = family.spawn(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", f"{shared}/www", "0"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = server.stdout.readline()  # Serving HTTP on 127.0.0.1 port 40123 (...) ...
    return said.split(" port ")[1].split()[0]

import io
import queue
import re
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyg_bgformer.cli.main import main
from pyg_bgformer.deploy.image_index import ImageIndex, find_images
from tests.deploy.photos import small_model, write_photos
from tests.report.html_page import Page

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")
testing = pytest.importorskip("fastapi.testclient", reason="the extra 'serve' is not installed")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_photos(folder / "photos")
    return ImageIndex.create(folder / "index", small_model(), find_images([folder / "photos"]))


@pytest.fixture
def client(index):
    from pyg_bgformer.deploy.server import search_app

    return testing.TestClient(search_app(index, limit=100_000))


def upload(path):
    return {"image": ("photo.png", Path(path).read_bytes())}


def test_search_finds_what_the_index_finds(client, index):
    photo = index.vectors.names[3]
    found = client.post("/search", files=upload(photo), data={"k": 4}).json()["neighbours"]
    hits = index.search(photo, k=4)
    assert [hit["path"] for hit in found] == hits.names[0]
    assert [hit["similarity"] for hit in found] == pytest.approx(hits.similarities[0].tolist())
    assert [hit["image"] for hit in found] == [f"images/{entry}" for entry in hits.ids[0].tolist()]
    assert len(client.post("/search", files=upload(photo)).json()["neighbours"]) == 8


def test_embed_gives_the_embedding_and_health_the_model(client, index):
    photo = index.vectors.names[0]
    answer = client.post("/embed", files=upload(photo)).json()
    assert answer["embedding"] == pytest.approx(index.model.embed(photo)[0].tolist(), abs=1e-6)
    health = client.get("/health").json()
    assert health == {"status": "ok", "images": 12, "dim": 8, "model": answer["model"]}


def test_images_that_another_process_adds_are_found(tmp_path):
    from pyg_bgformer.deploy.server import search_app

    photos = [str(path) for path in write_photos(tmp_path / "photos", 4)]
    index = ImageIndex.create(tmp_path / "index", small_model(), photos[:3])
    client = testing.TestClient(search_app(index))
    ImageIndex(tmp_path / "index").add(photos)
    (found,) = client.post("/search", files=upload(photos[3]), data={"k": 1}).json()["neighbours"]
    assert found["path"] == photos[3]
    assert client.get(f"/{found['image']}").status_code == 200


def test_the_page_needs_no_other_host(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    page = Page(answer.text)
    assert page.open == []
    assert {"drop", "found", "k"} <= page.ids
    assert not re.findall(r"https?://", answer.text)


def test_pictures_are_small_and_of_the_index_alone(client):
    answer = client.get("/images/0")
    assert Image.open(io.BytesIO(answer.content)).size == (240, 240)
    for place in ("12", "-1", "99999999999999999999"):
        assert client.get(f"/images/{place}").status_code == 404
    for place in ("x", "..%2F..%2Fetc%2Fpasswd", "/etc/passwd", "0/../../../etc/passwd"):
        assert client.get(f"/images/{place}").status_code in (404, 422)


def noise(size):
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def test_mistakes_are_answered_by_one_line(client, index):
    photo = upload(index.vectors.names[0])
    for place, form, status, words in [
        ("/search", {"files": {"image": b"no image"}}, 400, "image: not an image"),
        ("/search", {"files": {"image": b""}}, 400, "image: the file is empty"),
        ("/search", {"files": {"image": b"%PDF-1.4 " + bytes(99)}}, 400, "expected BMP, GIF, JPEG"),
        ("/search", {"files": photo, "data": {"k": 13}}, 400, "k: found 13, expected 1 to 12"),
        ("/search", {"files": photo, "data": {"k": 0}}, 400, "k: found 0, expected 1 to 12"),
        ("/search", {"files": photo, "data": {"k": "x"}}, 422, "k: Input should be a valid integer"),
        ("/search", {"content": b"raw"}, 422, "image: Field required; expected a form with the file"),
        ("/search", {"data": {"image": "text"}}, 422, "image: "),
        ("/embed", {"files": {"image": b"GIF89a"}}, 400, "image: "),
        ("/embed", {"files": {"image": noise(200)}}, 413, "the upload is larger than 0.1 MB"),
    ]:
        answer = client.post(place, **form)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]
        assert "\n" not in answer.json()["detail"]


@pytest.fixture(scope="module")
def address(index):
    """A server in a thread, on a free port."""
    from pyg_bgformer.deploy import server

    running, addresses = [], queue.Queue()

    class Stoppable(server.uvicorn.Server):
        def __init__(self, config):
            super().__init__(config)
            running.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.uvicorn, "Server", Stoppable)
        thread = threading.Thread(
            target=server.serve, args=(index,), kwargs={"port": 0, "started": addresses.put}
        )
        thread.start()
        yield addresses.get(timeout=30)
        running[0].should_exit = True
        thread.join()


def test_no_request_of_several_clients_is_lost(address, index):
    photos = [upload(path) for path in index.vectors.names]
    found = [[] for _ in range(4)]

    def ask(own):
        with httpx.Client(base_url=address, timeout=60) as client:
            for photo in photos:
                answer = client.post("/search", files=photo, data={"k": 1})
                own.append(answer.json()["neighbours"][0]["path"])

    threads = [threading.Thread(target=ask, args=(own,)) for own in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(index.vectors.names)] * 4


def test_an_upload_of_100_megabytes_is_refused_while_it_arrives(address):
    answer = httpx.post(f"{address}/search", files={"image": bytes(100_000_000)}, timeout=60)
    assert answer.status_code == 413
    assert answer.json() == {"detail": "the upload is larger than 20 MB; send a smaller image"}

    def pieces():  # a body that does not say how long it is
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n'
        for _ in range(30):
            yield bytes(1_000_000)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert httpx.post(f"{address}/search", content=pieces(), headers=kind, timeout=60).status_code == 413
    assert httpx.get(f"{address}/health").json()["status"] == "ok"


def test_other_names_of_this_machine_are_not_answered(address):
    assert httpx.get(f"{address}/health", headers={"host": "evil.example"}).status_code == 400


def test_mistakes_at_the_start_are_one_line(index, tmp_path, capsys):
    folder = str(index.vectors.folder)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command, words in [
            ([folder, "--port", port], f"port {port} of 127.0.0.1 cannot be used: Address already in use\n"),
            ([folder, "--port", "70000"], "port must be at least 0 and at most 65535, found 70000"),
            ([folder, "--limit", "0"], "--limit must be above 0"),
            ([str(tmp_path)], "is not an index"),
            ([folder, "--host", "256.0.0.1"], "port 8000 of 256.0.0.1 cannot be used"),
            ([folder, "--device", "nowhere"], "device 'nowhere' cannot be used"),
        ]:
            assert main(["serve", *command]) == 2
            printed = capsys.readouterr()
            assert words in printed.err
            assert printed.err.count("\n") == 1


def test_the_command_says_where_and_stops_when_it_is_interrupted(index, monkeypatch, capsys):
    def interrupted(served, host, port, *, limit, started):
        assert (len(served), host, port, limit) == (12, "127.0.0.1", 8000, 5_000_000)
        started("http://127.0.0.1:8000")
        raise KeyboardInterrupt

    monkeypatch.setattr("pyg_bgformer.deploy.server.serve", interrupted)
    assert main(["serve", str(index.vectors.folder), "--limit", "5"]) == 0
    assert capsys.readouterr().out == (
        f"serving {index.vectors.folder}, 12 images: http://127.0.0.1:8000 (Ctrl-C stops it)\nstopped\n"
    )

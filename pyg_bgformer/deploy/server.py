"""A web service for an index: it searches for a photo, embeds a photo, and has a page for people."""

import io
import socket
import threading
from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

from PIL import Image, ImageOps

from pyg_bgformer.data.decoding import available_cpus
from pyg_bgformer.data.image_files import open_image
from pyg_bgformer.data.images import ImageError, decode_rgb
from pyg_bgformer.deploy.image_index import ImageIndex
from pyg_bgformer.errors import InputError, check_range

try:
    import uvicorn
    from fastapi import FastAPI, Form, HTTPException, Request, UploadFile
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, Response
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise InputError("a server needs more libraries: pip install 'pyg-bgformer[serve]'") from error

UPLOAD_LIMIT = 20_000_000
"""Largest request in bytes."""
DISCARDED = 10
"""A request of up to this many times the limit is read to its end, so that the client can read the answer."""
THUMBNAIL = 240
"""Side in pixels of the pictures on the page."""
LOOPBACK = ("127.0.0.1", "localhost")


def serve(
    index: ImageIndex,
    host: str = LOOPBACK[0],
    port: int = 8000,
    *,
    limit: int = UPLOAD_LIMIT,
    started: Callable[[str], None] = print,
) -> None:
    """Serves an index over HTTP until the process is interrupted.

    Args:
        index: The index.
        host: Address to listen at. The default can only be reached from this machine.
        port: The port, from 0 to 65535. 0 takes a free port.
        limit: Largest request in bytes.
        started: Called with the URL of the service when it accepts requests.

    Raises:
        InputError: If the port is out of range or cannot be used.
    """
    check_range("port", port, at_least=0, at_most=65535)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise InputError(f"port {port} of {host} cannot be used: {reason}") from error
    app = search_app(index, limit=limit)
    if host in LOOPBACK:  # against DNS rebinding by pages of other sites
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    with listener:
        shown = f"[{host}]" if ":" in host else host
        started(f"http://{shown}:{listener.getsockname()[1]}")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def search_app(index: ImageIndex, *, limit: int = UPLOAD_LIMIT) -> FastAPI:
    """Returns the service as an ASGI application.

    ``POST /search`` takes a form with the file ``image`` and the number ``k``. ``POST /embed`` takes a form with
    the file ``image``. ``GET /images/N`` is a small picture of image N of the index, from 0. ``GET /health``
    describes the index, and ``GET /`` is a page for people. The answer to a wrong request is one line, ``detail``.

    Args:
        index: The index. The next search also finds images that another process has added.
        limit: Largest request in bytes.
    """
    service = SearchService(index)
    app = FastAPI(title="pyg_bgformer", description="Image search")
    app.add_middleware(UploadLimit, limit=limit)
    app.add_exception_handler(InputError, _mistake)
    app.add_exception_handler(RequestValidationError, _mistake)
    app.get("/", response_class=HTMLResponse)(service.page)
    app.get("/health")(service.health)
    app.post("/search")(service.search)
    app.post("/embed")(service.embed)
    app.get("/images/{entry}")(service.thumbnail)
    return app


class SearchService:
    """The answers of the service. FastAPI calls each method in a thread of its own.

    Args:
        index: The index.
    """

    def __init__(self, index: ImageIndex) -> None:
        self.index = index
        self.html = files("pyg_bgformer.deploy").joinpath("pages/search.html").read_text(encoding="utf-8")
        self.computing = threading.Lock()
        # A photo of a few megabytes can take half a gigabyte when it is decoded.
        self.decoding = threading.BoundedSemaphore(available_cpus())

    def decoded(self, upload: UploadFile) -> Image.Image:
        """Returns an uploaded image."""
        with self.decoding:
            return decode_rgb(upload.file, "image")

    def page(self) -> str:
        """Returns the page for people."""
        return self.html

    def health(self) -> dict[str, Any]:
        """Describes the index."""
        self.index.vectors.refresh()
        model = self.index.model
        return {"status": "ok", "images": len(self.index), "dim": model.dim, "model": model.sha256}

    def search(self, image: UploadFile, k: Annotated[int, Form()] = 8) -> dict[str, Any]:
        """Returns the k images of the index that are most similar to an image."""
        query = self.decoded(image)
        vectors = self.index.vectors
        with self.computing:
            vectors.refresh()
            vectors.check_k(k)
            hits = vectors.search(self.index.model.embed([query], workers=0), k, exact=False)
        found = zip(hits.ids[0].tolist(), hits.names[0], hits.similarities[0].tolist(), strict=True)
        return {
            "neighbours": [
                {"path": path, "similarity": similarity, "image": f"images/{entry}"}
                for entry, path, similarity in found
            ]
        }

    def embed(self, image: UploadFile) -> dict[str, Any]:
        """Returns the embedding of an image."""
        query = self.decoded(image)
        with self.computing:
            embedding = self.index.model.embed([query], workers=0)
        return {"embedding": embedding[0].tolist(), "model": self.index.model.sha256}

    def thumbnail(self, entry: int) -> Response:
        """Returns a small picture of an image of the index."""
        if not 0 <= entry < len(self.index):
            raise HTTPException(404, f"no image {entry}: the index has {len(self.index)} images")
        path = self.index.vectors.names[entry]
        try:
            with self.decoding, open_image(path) as stream:
                small = ImageOps.fit(decode_rgb(stream, path), (THUMBNAIL, THUMBNAIL))
        except (OSError, ImageError) as error:
            raise HTTPException(404, f"image {entry} cannot be read any more") from error
        content = io.BytesIO()
        small.save(content, "WEBP", quality=80)
        return Response(content.getvalue(), media_type="image/webp", headers={"Cache-Control": "max-age=600"})


def _mistake(_: Request, error: Exception) -> JSONResponse:
    """Returns the answer to a wrong request."""
    if not isinstance(error, RequestValidationError):
        return JSONResponse({"detail": str(error)}, 400)
    first = error.errors()[0]
    line = (
        f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}; expected a form with the file image and k"
    )
    return JSONResponse({"detail": line}, 422)


class UploadLimit:
    """Refuses requests with a body that is too large. It counts the bytes and does not trust the headers.

    The rest of such a body is read and dropped, up to :data:`DISCARDED` times the limit, because most clients only
    read the answer after they have sent everything.

    Args:
        app: The application.
        limit: Largest body in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request to the application, or refuses it."""
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size <= self.limit:
                return message
            while message.get("more_body", False) and size <= DISCARDED * self.limit:
                message = await receive()
                size += len(message.get("body", b""))
            raise HTTPException(
                413, f"the upload is larger than {self.limit / 1e6:g} MB; send a smaller image"
            )

        await self.app(scope, counted, send)

"""A web service for an index: search by a photo, embed a photo, and a page to drop photos on."""

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
"""How many times the limit is received and dropped, so that a client that is still sending can read the answer."""
THUMBNAIL = 240
"""Pixels of the pictures of the page."""
LOOPBACK = ("127.0.0.1", "localhost")


def serve(
    index: ImageIndex,
    host: str = LOOPBACK[0],
    port: int = 8000,
    *,
    limit: int = UPLOAD_LIMIT,
    started: Callable[[str], None] = print,
) -> None:
    """Answers requests until the process is interrupted.

    Args:
        index: The index.
        host: Address of this machine to listen at. By default only programs of this machine reach it.
        port: 0 takes a free one.
        limit: Largest request in bytes.
        started: Called with the address when requests are accepted.

    Raises:
        InputError: If the port is taken or may not be used.
    """
    check_range("port", port, at_least=0, at_most=65535)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise InputError(f"port {port} of {host} cannot be used: {reason}") from error
    app = search_app(index, limit=limit)
    if host in LOOPBACK:  # a page of another site must not reach it under a name of its own
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    with listener:
        shown = f"[{host}]" if ":" in host else host
        started(f"http://{shown}:{listener.getsockname()[1]}")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def search_app(index: ImageIndex, *, limit: int = UPLOAD_LIMIT) -> FastAPI:
    """Returns the service as an ASGI application.

    ``POST /search`` takes a form with the file ``image`` and the number ``k``; ``POST /embed`` takes ``image``.
    ``GET /images/N`` is a small picture of the index's N-th image. ``GET /health`` says which index it is, and
    ``GET /`` is a page for people. A mistake is answered by one line, ``detail``.

    Args:
        index: The index. Images that another process adds to it are found by the next search.
        limit: Largest request in bytes.
    """
    app = FastAPI(title="pyg_bgformer", description="Image search")
    app.add_middleware(UploadLimit, limit=limit)
    app.add_exception_handler(InputError, _mistake)
    app.add_exception_handler(RequestValidationError, _mistake)
    page = files("pyg_bgformer.deploy").joinpath("pages/search.html").read_text(encoding="utf-8")
    model, vectors = index.model, index.vectors
    computing, decoding = threading.Lock(), threading.BoundedSemaphore(available_cpus())

    def picture(upload: UploadFile) -> Image.Image:
        with decoding:  # a photo of a few megabytes can take half a gigabyte when it is decoded
            return decode_rgb(upload.file, "image")

    @app.get("/", response_class=HTMLResponse)
    def show_page() -> str:
        return page

    @app.get("/health")
    def health() -> dict[str, Any]:
        vectors.refresh()
        return {"status": "ok", "images": len(index), "dim": model.dim, "model": model.sha256}

    @app.post("/search")
    def search(image: UploadFile, k: Annotated[int, Form()] = 8) -> dict[str, Any]:
        query = picture(image)
        with computing:
            vectors.refresh()
            vectors.check_k(k)
            hits = vectors.search(model.embed([query], workers=0), k, exact=False)
        found = zip(hits.ids[0].tolist(), hits.names[0], hits.similarities[0].tolist(), strict=True)
        return {
            "neighbours": [
                {"path": path, "similarity": similarity, "image": f"images/{entry}"}
                for entry, path, similarity in found
            ]
        }

    @app.post("/embed")
    def embed(image: UploadFile) -> dict[str, Any]:
        query = picture(image)
        with computing:
            embedding = model.embed([query], workers=0)
        return {"embedding": embedding[0].tolist(), "model": model.sha256}

    @app.get("/images/{entry}")
    def thumbnail(entry: int) -> Response:
        if not 0 <= entry < len(index):
            raise HTTPException(404, f"no image {entry}: the index has {len(index)} images")
        path = vectors.names[entry]
        try:
            with decoding, open_image(path) as stream:
                small = ImageOps.fit(decode_rgb(stream, path), (THUMBNAIL, THUMBNAIL))
        except (OSError, ImageError) as error:
            raise HTTPException(404, f"image {entry} cannot be read any more") from error
        content = io.BytesIO()
        small.save(content, "WEBP", quality=80)
        return Response(content.getvalue(), media_type="image/webp", headers={"Cache-Control": "max-age=600"})

    return app


def _mistake(_: Request, error: Exception) -> JSONResponse:
    """Returns one line for something that is wrong with a request."""
    if not isinstance(error, RequestValidationError):
        return JSONResponse({"detail": str(error)}, 400)
    first = error.errors()[0]
    line = (
        f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}; expected a form with a file, image, and k"
    )
    return JSONResponse({"detail": line}, 422)


class UploadLimit:
    """Refuses requests whose body is too large, however they say how large it is.

    The rest of such a body is received and dropped, up to a limit, because most clients read the answer only when
    they have sent all of it.

    Args:
        app: The application.
        limit: Bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a request to the application."""
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

"""CTranslate2 behind the web framework of t2t-server, for benchmarks/server_load.py.

As its users write it: one endpoint, a translator with a thread for each core, each request given to
CTranslate2 from a thread of its own, which batches nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor

import ctranslate2
import sentencepiece
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from t2t_vqem.server.serving import listen


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a CTranslate2 model")
    parser.add_argument("--vocabulary", required=True, help="file of the SentencePiece model")
    parser.add_argument("--extra_length", type=int, default=50)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    vocabulary = sentencepiece.SentencePieceProcessor(arguments.vocabulary)
    translator = ctranslate2.Translator(
        arguments.model, compute_type="int8", intra_threads=1, inter_threads=cores
    )
    pool = ThreadPoolExecutor(2 * cores)

    def translate(text: str) -> str:
        tokens = [*vocabulary.EncodeAsPieces(text), "</s>"]
        (found,) = translator.translate_batch(
            [tokens], beam_size=1, max_decoding_length=len(tokens) + arguments.extra_length
        )
        return vocabulary.DecodePieces(found.hypotheses[0])

    async def answer(request: Request) -> JSONResponse:
        text = json.loads(await request.body())["text"]
        loop = asyncio.get_running_loop()
        return JSONResponse(
            {"translations": {"text": await loop.run_in_executor(pool, translate, text)}}
        )

    app = Starlette(routes=[Route("/v1/translate", answer, methods=["POST"])])
    opened = listen("127.0.0.1", 0)
    translate("a")
    print(f"http://127.0.0.1:{opened.getsockname()[1]}/", flush=True)
    config = uvicorn.Config(app, http="httptools", ws="none", access_log=False, log_level="error")
    uvicorn.Server(config).run(sockets=[opened])


if __name__ == "__main__":
    main()

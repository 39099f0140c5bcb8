"""Encryption objects."""

import asyncio
import base64
import sys

try:
    from langgraph_sdk import Encryption
except ImportError:
    sys.exit("these tests need langgraph-sdk 0.3.1 or newer")
from langgraph_sdk.encryption.types import DecryptResult

encryption = Encryption()
contextual = Encryption()
half = Encryption()
strange = {}
SEEN = []


class Locked(Exception):
    pass


def turned(data):
    return bytes(byte ^ 0x5A for byte in data)


async def encrypt_blob(ctx, data):
    match data:
        case b"raise":
            raise Locked(f"no key for {data!r}")
        case b"hang":
            await asyncio.Event().wait()
        case b"text":
            return "no bytes"
        case b"array":
            return bytearray(b"array")
        case b"view":
            return memoryview(b"view")
        case b"seen":
            return repr((ctx.model, ctx.field, ctx.metadata)).encode()
    return turned(data)


async def decrypt_blob(ctx, data):
    return DecryptResult(plaintext=turned(data), replacement=b"newer") if data == turned(b"older") else turned(data)


async def encrypt_json(ctx, data):
    match data.get("do"):
        case "raise":
            raise Locked(f"no key for {data!r}")
        case "add":
            return {**data, "more": 1}
        case "remove":
            return {"do": "remove"}
        case "list":
            return [data]
        case "set":
            return {**data, "v": {1}}
        case "nan":
            return {**data, "v": float("nan")}
        case "in place":
            data["v"] = "changed"
            return data
        case "cancel":
            raise asyncio.CancelledError
    return {
        key: value if key == "clear" else base64.b64encode(repr(value).encode()).decode() for key, value in data.items()
    }


async def decrypt_json(ctx, data):
    plain = {key: value if key == "clear" else base64.b64decode(value).decode() for key, value in data.items()}
    return DecryptResult(plaintext=plain, replacement=None) if "older" in data else plain


async def context(user, ctx):
    match ctx.metadata.get("do"):
        case "raise":
            raise Locked(user.identity)
        case "none":
            return None
        case "nan":
            return {"n": float("nan")}
    return {**ctx.metadata, "user": user.identity, "org": user.get("org") if hasattr(user, "get") else None}


for each in (encryption, contextual):
    each.encrypt.blob(encrypt_blob)
    each.decrypt.blob(decrypt_blob)
    each.encrypt.json(encrypt_json)
    each.decrypt.json(decrypt_json)
contextual.context(context)
half.encrypt.blob(encrypt_blob)
half.decrypt.json(decrypt_json)

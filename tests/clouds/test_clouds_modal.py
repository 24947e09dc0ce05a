"""Modal's gRPC through its own SDK and raw: keys, what is not served, large messages and files."""

import asyncio
import hashlib

import pytest

from harbor_nb.practice_clouds.description import Practice
from harbor_nb.practice_clouds.server import PracticeServer

pytestmark = pytest.mark.local
modal = pytest.importorskip("modal")


@pytest.fixture
def server():
    made = PracticeServer("modal", Practice()).start()
    yield made
    made.close()


def channel(server):
    from grpclib.client import Channel

    port = int(server.environ["MODAL_SERVER_URL"].rsplit(":", 1)[1])
    return Channel("127.0.0.1", port)


def keys(server, **other):
    good = {"x-modal-token-id": server.environ["MODAL_TOKEN_ID"], "x-modal-token-secret": server.backend.key}
    return good | {name.replace("_", "-"): value for name, value in other.items()}


async def asked(server, name: str, request, **other):
    from modal_proto.api_grpc import ModalClientStub

    link = channel(server)
    try:
        return await asyncio.wait_for(getattr(ModalClientStub(link), name)(request, metadata=keys(server, **other)), 20)
    finally:
        link.close()


async def test_a_wrong_key_is_refused_as_modal_does(server):
    from google.protobuf.empty_pb2 import Empty
    from grpclib import GRPCError, Status

    assert (await asked(server, "ClientHello", Empty())).image_builder_version
    for wrong in ({"x_modal_token_secret": "sentinel-real"}, {"x_modal_token_id": "ak-other"}):
        with pytest.raises(GRPCError) as raised:
            await asked(server, "ClientHello", Empty(), **wrong)
        assert raised.value.status is Status.UNAUTHENTICATED
        assert server.backend.key not in str(raised.value)
    assert server.backend.foreign_keys == 1


async def test_what_is_not_served_is_named(server, caplog):
    from grpclib import GRPCError, Status
    from modal_proto import api_pb2

    with pytest.raises(GRPCError, match="not served by the practice cloud: POST ModalClient/QueuePut") as raised:
        await asked(server, "QueuePut", api_pb2.QueuePutRequest())
    assert raised.value.status is Status.UNIMPLEMENTED
    assert "not served by the practice cloud: POST ModalClient/QueuePut" in caplog.text


async def test_a_huge_message_is_refused(server):
    from google.protobuf.empty_pb2 import Empty
    from grpclib import GRPCError
    from grpclib.exceptions import StreamTerminatedError
    from modal_proto import api_pb2

    data = b"x" * (17 * 2**20)
    request = api_pb2.MountPutFileRequest(sha256_hex=hashlib.sha256(data).hexdigest(), data=data)
    with pytest.raises((GRPCError, StreamTerminatedError)):
        await asked(server, "MountPutFile", request)
    assert not list(server.backend.folder.glob("sha256-*"))
    assert (await asked(server, "ClientHello", Empty())).image_builder_version


async def test_a_mounted_file_can_not_leave_its_folder(server, tmp_path):
    from modal_proto import api_pb2

    data = b"evil"
    digest = hashlib.sha256(data).hexdigest()
    await asked(server, "MountPutFile", api_pb2.MountPutFileRequest(sha256_hex=digest, data=data))
    target = tmp_path / "evil.txt"
    file = api_pb2.MountFile(filename=f"/../../../../../../..{target}", sha256_hex=digest)
    mount = await asked(server, "MountGetOrCreate", api_pb2.MountGetOrCreateRequest(files=[file]))
    image = api_pb2.Image(dockerfile_commands=["FROM scratch"], context_mount_id=mount.mount_id)
    await asked(server, "ImageGetOrCreate", api_pb2.ImageGetOrCreateRequest(image=image))
    again = await asked(server, "ImageGetOrCreate", api_pb2.ImageGetOrCreateRequest(image=image))
    assert again.result.status != api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
    assert not target.exists()

"""The messages are those of the .proto file, which is what people read and change."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
PROTO = "agent/store/etcd/rpc.proto"


def test_the_generated_messages_are_those_of_the_proto_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", PROTO]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    for name in ("rpc_pb2.py", "rpc_pb2.pyi"):
        made = Path(PROTO).with_name(name)
        assert (tmp_path / made).read_text() == (REPOSITORY / made).read_text()

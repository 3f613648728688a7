"""The code of an error that AWS returned."""

from __future__ import annotations


def error_code(error: BaseException) -> str:
    """Return the code of a botocore ClientError, for example `ThrottlingException`, and "" for any other error."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""

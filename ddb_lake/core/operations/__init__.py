"""Running the lake: error hints, retries, rate limits, IAM policies, prices."""

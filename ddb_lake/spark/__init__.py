"""Spark as the engine of distribution: it hands tasks out, shuffles rows by bucket, and tries again what fails.

It knows neither the lake nor its semantics: those are in the functions it is given, which are the same ones that do the
work on one machine. Nothing comes back to the driver but what they return.
"""

"""`python -m ddb_lake.infra`: synthesise, check and write plain templates. Nothing is deployed, nothing downloaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from ddb_lake.config import load_settings
from ddb_lake.errors import CheckFailed, DdbLakeError
from ddb_lake.infra.config import load_infra
from ddb_lake.infra.deployment import Deployment, resolve_deployment
from ddb_lake.infra.nag_findings import checkov_outcome, compare

_EXAMPLE = Path(__file__).with_name("example.yaml")
_config = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), default=_EXAMPLE, help="The deployment's file."
)
_out = click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where to write.")
_FROM_CDK = "CDK_CONTEXT_JSON"
_DIVIDE = "divide the tables over several lakes, each with its own `name` and file, or leave the stack out of `stacks`"


@click.group()
def main() -> None:
    """Infrastructure of a lake."""


@main.command()
@_config
@_out
@click.option("--explicit", is_flag=True, help="Bind the stacks to the deployment's accounts and Region.")
@click.option("--record", is_flag=True, hidden=True, help="Report acknowledged findings like all others.")
def synth(config: Path, out: Path, explicit: bool, record: bool) -> None:
    """Synthesise every stack and run cdk-nag; findings fail it. `cdk deploy --app DIR` takes it from there."""
    deployment = _load_deployment(config)
    _synthesise(deployment, out, explicit or deployment.settings.is_bound, record)


@main.command()
@click.option("--out", envvar="CDK_OUTDIR", type=click.Path(path_type=Path, file_okay=False), required=True)
def cdk(out: Path) -> None:
    """Synthesise for CDK's command line: the `app` of cdk.json, which `cdk synth`, `diff` and `deploy` run.

    The deployment's file is `infra.yaml` in the current folder, or that of `cdk -c config=FILE`. Without either it is the
    example, bound to accounts that do not exist: it is synthesised, and cannot be deployed.
    """
    config = cdk_config(os.environ.get(_FROM_CDK), Path.cwd())
    deployment = _load_deployment(config or _EXAMPLE)
    if config is None:
        click.echo(
            "no infra.yaml here: this is the example deployment; copy it, or name a file with -c config=FILE", err=True
        )
    _synthesise(deployment, out, config is None or deployment.settings.is_bound, record=False)


def cdk_config(context: str | None, folder: Path) -> Path | None:
    """The deployment's file that CDK's context names, else `infra.yaml` in the folder if it exists, else None."""
    named = json.loads(context).get("config") if context else None
    if named is not None:
        return folder / str(named)
    usual = folder / "infra.yaml"
    return usual if usual.exists() else None


def _synthesise(deployment: Deployment, out: Path, bound: bool, record: bool) -> None:
    from ddb_lake.infra.app import build_app

    try:
        build_app(deployment, out, explicit_environment=bound, record_acknowledgements=record).synth()
    except RuntimeError as error:  # jsii has no other class for errors of CDK
        if "ValidationFailed" in str(error):
            raise CheckFailed(f"cdk-nag has findings, listed above and in {out / 'validation-report.json'}") from error
        raise CheckFailed(
            f"CDK refuses the deployment: {str(error).partition(': AWS::')[0]}",
            hint=_DIVIDE if "TooManyResources" in str(error) else None,
        ) from error


@main.command()
@_config
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Keep the assemblies here.")
def check(config: Path, out: Path | None) -> None:
    """Synthesise with and without an explicit environment, and hold cdk-nag and cfn-lint to the acknowledgements."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = out or Path(scratch)
        agnostic, explicit = folder / "agnostic", folder / "explicit"
        command = [sys.executable, "-m", "ddb_lake.infra", "synth", "--config", str(config), "--out"]
        began = time.monotonic()
        plain = subprocess.Popen([*command, str(agnostic)])
        recorded = subprocess.Popen([*command, str(explicit), "--explicit", "--record"], stderr=subprocess.DEVNULL)
        recorded.wait()
        if plain.wait() != 0:
            raise CheckFailed("synthesis without an environment failed, see above")
        click.echo(f"synthesised with and without an explicit environment in {time.monotonic() - began:.0f} s")
        outcome = compare(explicit)
        for line in outcome.unacknowledged:
            click.echo(f"not acknowledged: {line}", err=True)
        for line in outcome.unused:
            click.echo(f"acknowledged without a finding: {line}", err=True)
        if not outcome.clean:
            raise CheckFailed("cdk-nag's findings and the acknowledgements differ")
        click.echo(f"cdk-nag: no findings but {outcome.acknowledged} acknowledged ones, each with its reason")
        _lint([*agnostic.glob("*.template.json"), *explicit.glob("*.template.json")])


@main.command()
@_config
@_out
def templates(config: Path, out: Path) -> None:
    """Write a plain template for each topology, with the functions' packages and a README of the parameters."""
    from ddb_lake.infra.templates import write_templates

    written = write_templates(_load_deployment(config), out)
    _lint([path for path in written if path.suffix == ".json"])
    click.echo("\n".join(str(path) for path in written))


@main.command()
@click.argument("report", type=click.Path(path_type=Path, exists=True))
@click.argument("assembly", type=click.Path(path_type=Path, exists=True))
def checkov(report: Path, assembly: Path) -> None:
    """Compare checkov's JSON REPORT with the skips in the templates of ASSEMBLY: no failure, no unused skip."""
    failed, unused, passed = checkov_outcome(report, assembly)
    for line in (*failed, *(f"unused skip: {line}" for line in unused)):
        click.echo(line, err=True)
    if failed or unused:
        raise CheckFailed("checkov's findings and the skips differ")
    click.echo(f"checkov: {passed} checks passed, none failed; every skip has its reason")


def _load_deployment(config: Path) -> Deployment:
    settings = load_infra(config)
    return resolve_deployment(settings, load_settings(settings.lake))


def _lint(paths: list[Path]) -> None:
    # W3005: CDK writes out dependencies that references imply already.
    command = [str(Path(sys.executable).with_name("cfn-lint")), "-i", "W3005", "--", *map(str, paths)]
    if subprocess.run(command, check=False).returncode:
        raise CheckFailed("cfn-lint has findings, see above")
    click.echo(f"cfn-lint: {len(paths)} templates without findings")


if __name__ == "__main__":
    try:
        main()
    except DdbLakeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)

"""The site directory: our wheel and the pinned wheels it needs, compiled, owned by root, never changed afterwards."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pinned
from files import digest, make_directory
from steps import BUILD, LIB, PROJECT, StepFailed, environment, report, run

REQUIREMENTS = PROJECT / "packaging/requirements.txt"
BUILD_REQUIREMENTS = PROJECT / "packaging/requirements-build.txt"
SOURCE_REQUIREMENTS = PROJECT / "packaging/requirements-source.txt"  # nobody publishes Linux wheels of these
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


def sources() -> list[Path]:
    """Every file that decides what the site holds."""
    found = [PROJECT / name for name in ("pyproject.toml", "meson.build", "meson.options")]
    for folder in ("pam_mfa", "native"):
        found += (PROJECT / folder).rglob("*")
    named = [path for path in found if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"]
    return [*named, REQUIREMENTS, BUILD_REQUIREMENTS, SOURCE_REQUIREMENTS]


def build(root: Path) -> Path:
    """Make the site directory for what the sources are now, unless it is there.

    Args:
        root: / or where a tree is staged.

    Returns its path below `root`. Raises StepFailed.
    """
    name = f"site-{digest(sources(), sys.version, os.uname().machine)}"
    site = root / LIB.relative_to("/") / name
    if site.is_dir():
        report("build", f"{name} is current")
        return site
    make_directory(site.parent)
    unfinished = site.parent / f".{name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    fill(unfinished, wheel())
    compile_all(unfinished, LIB / name)
    own(unfinished)
    unfinished.rename(site)
    report("build", f"{name}, Python {MINOR}")
    return site


def wheel() -> Path:
    """Build ours; returns the file."""
    tools = BUILD / "tools"
    pinned.ensure(tools, BUILD_REQUIREMENTS)
    folder = BUILD / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    meson = BUILD / f"meson-{MINOR}"
    pip: list[str | Path] = [
        tools / "bin/pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--wheel-dir",
        folder,
    ]
    run(
        [*pip, f"--config-settings=build-dir={meson}", PROJECT],
        "the build failed, see above",
        environment(tools / "bin"),
    )
    wheels = list(folder.glob("pam_mfa-*.whl"))
    if len(wheels) != 1:
        raise StepFailed(f"the build left {len(wheels)} wheels in {folder}: remove {BUILD} and try again")
    return wheels[0]


def fill(site: Path, ours: Path) -> None:
    """Unpack the pinned wheels, then those built here, then ours, into a new directory."""
    pip: list[str | Path] = [BUILD / "tools/bin/pip", "install", "--no-compile", "--target", site]
    wheels: list[str | Path] = [*pip, "--only-binary", ":all:"]
    pinned_by = "--require-hashes", "--requirement"
    run(
        [*wheels, *pinned_by, REQUIREMENTS],
        f"pip could not install {REQUIREMENTS.name}: is the package index within reach?",
    )
    run(
        [*pip, "--no-binary", ":all:", "--no-build-isolation", "--no-deps", *pinned_by, SOURCE_REQUIREMENTS],
        f"pip could not build {SOURCE_REQUIREMENTS.name}, see above",
        environment(BUILD / "tools/bin"),
    )
    run([*wheels, "--no-deps", "--no-index", ours], "pip could not unpack our own wheel, see above")
    for unused in [site / "bin", site / "share", *site.rglob("__pycache__")]:
        shutil.rmtree(unused, ignore_errors=True)


def compile_all(site: Path, final: Path) -> None:
    """Every .pyc, unchecked: the directory never changes, and nobody who runs it could write a new one."""
    compileall: list[str | Path] = [pinned.PYTHON, "-I", "-m", "compileall", "-q", "-f", "-j", "0"]
    run(
        [*compileall, "--invalidation-mode", "unchecked-hash", "-s", site, "-p", final, site],
        "Python could not compile its modules, see above",
    )


def own(site: Path) -> None:
    """Root's, readable by all, writable by nobody else, whatever pip and the umask made of it."""
    for folder, _, files in os.walk(site):
        os.chown(folder, 0, 0)
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if path.is_symlink():
                raise StepFailed(f"{path} is a link: no wheel should hold one")
            os.chown(path, 0, 0)
            path.chmod(0o755 if path.parent.name == "_native" and not path.suffix else 0o644)

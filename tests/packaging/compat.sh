#!/usr/bin/env bash
# One build of the wheel, then the whole suite under the oldest torch it supports and under the newest.
# Usage: tests/packaging/compat.sh PYTHON, with the build requirements installed (make test-compat).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=$1
out=$PWD/build/compat
rm -rf "$out"
"$python" -m pip wheel --no-build-isolation --no-deps --wheel-dir "$out" .
wheel=$(echo "$out"/*.whl)

# The tests run from a copy without the sources, so that nothing but the wheel can be imported.
mkdir "$out/tree"
git ls-files --cached --others --exclude-standard -- tests benchmarks docs tools README.md pyproject.toml |
  tar --create --files-from=- | tar --extract --directory="$out/tree"

for torch in "torch==2.10.*" "torch"; do
  environment=$out/${torch//[^a-z0-9.]/}
  "$python" -m venv "$environment"
  "$environment/bin/python" -m pip install "$torch" "$wheel[dev]"
  (cd "$out/tree" && "$environment/bin/python" -m polarity_ext.info &&
    "$environment/bin/python" -m pytest -n auto --maxprocesses 8 --dist loadgroup \
      --ignore tests/packaging --ignore tests/emulator -k "not emulated") # those two compile the sources
done

"""The emulator itself: right kernels pass, and each kernel that is wrong in one way is reported."""

import os
import re
import subprocess

import pytest

from tests.emulator import build as emulator

PLACE = r"(memory|synchronisation)\.cpp:\d+"
RACE = rf"race in .*{PLACE}.*{PLACE}, and nothing orders them"
UNWRITTEN = rf"read of shared array staged where nothing was written yet, at .*{PLACE}"
DATA_RACE = rf"SUMMARY: ThreadSanitizer: data race .*{PLACE}"
WRONG = "wrong result"

# What each variant says of the wrong twin, whatever the order of threads. A variant that is not named
# may miss it.
REPORTS: dict[str, dict[str, str]] = {
    "missing_sync_block": {"plain": WRONG, "checked": UNWRITTEN, "tsan": DATA_RACE},
    "missing_second_sync_block": {"plain": WRONG, "checked": RACE, "tsan": DATA_RACE},
    "missing_sync_warp": {"plain": WRONG, "checked": UNWRITTEN, "tsan": DATA_RACE},
    "missing_async_wait": {"plain": WRONG, "checked": UNWRITTEN},
    "cross_block_add": {"checked": RACE, "tsan": DATA_RACE},
    "distant_blocks": {"plain": WRONG, "checked": RACE},
    "uninitialised_shared": {"plain": WRONG, "checked": UNWRITTEN},
    "uninitialised_shared_unused": {"checked": UNWRITTEN},
    "divergent_barrier": dict.fromkeys(
        ("plain", "checked", "asan", "tsan"),
        rf"divergent barrier: threads 0\.\.31 wait in sync_block at .*{PLACE}; threads 32\.\.95 .*{PLACE}",
    ),
    "barrier_after_exit": {"plain": rf"divergent barrier: .*{PLACE}; threads 90\.\.95 ended"},
    "lanes_that_never_come": {
        "plain": rf"deadlock: threads 0\.\.15 wait in shuffle of lanes 0xffffffff at .*{PLACE}; .* ended"
    },
    "shuffle_from_outside_the_mask": {"plain": rf"{PLACE}: reads lane 20, which is not in the mask"},
    "lane_outside_its_mask": {"plain": rf"ballot at .*{PLACE}: lane \d+ is not in its mask"},
    "global_off_by_one": {"asan": rf"heap-buffer-overflow(.|\n)*{PLACE}"},
    "shared_off_by_one_write": {
        "plain": rf"write past the end of shared array staged of 256 bytes, declared at .*{PLACE}",
        "checked": rf"thread 63: write past the end of shared array staged of 256 bytes, at .*{PLACE}",
        "asan": rf"use-after-poison(.|\n)*{PLACE}",
    },
    "shared_off_by_one_read": {
        "plain": WRONG,
        "checked": rf"thread 63: read past the end of shared array staged of 256 bytes, at .*{PLACE}",
        "asan": rf"use-after-poison(.|\n)*{PLACE}",
    },
    "dynamic_shared_too_small": {"plain": rf"write past the end of .*{PLACE}", "asan": "use-after-poison"},
    "too_much_shared_memory": {"plain": rf"large at .*{PLACE} brings the block to 51200 bytes; .* 49152"},
    "misaligned_vector_load": {
        "checked": rf"16-byte access to an address that is no multiple of it, at .*{PLACE}",
        "asan": rf"{PLACE}.*misaligned address",
    },
    "index_overflow": {"plain": "", "asan": rf"SEGV on unknown address(.|\n)*{PLACE}"},
    "launch_arithmetic_overflow": {"asan": rf"{PLACE}.*signed integer overflow: 70000 \* 70000"},
    "block_too_large": {"plain": r"a block of 1025 threads is outside 1\.\.1024"},
    "empty_grid": {"plain": r"a grid of 0 blocks is outside 1\.\.2147483647; split the batch"},
    "mma_f64": {"plain": "the mask names lanes that the block lacks"},
    "mma_tf32": {"plain": WRONG},
    "mma_tf32_split": {"plain": WRONG},
}
# ucontext: fibers as on machines other than x86-64
VARIANTS = ("plain", "checked", "asan", "tsan", "ucontext")


def run(variant: str, *arguments: str) -> tuple[int, str]:
    program = emulator.build(f"programs_{variant}")
    if variant == "tsan":
        emulator.skip_without_thread_sanitizer()
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}  # of threads that were given up
    done = subprocess.run(
        [program, *arguments], cwd=emulator.ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def test_every_program_is_here() -> None:
    assert set(run("plain")[1].split()) == set(REPORTS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", REPORTS)
def test_right_kernels_pass(name: str, variant: str, seed: int) -> None:
    for order in range(len(emulator.ORDERS)):
        status, text = run(variant, name, "right", str(order), str(seed))
        assert status == 0, text


@pytest.mark.parametrize(("name", "variant"), [(name, v) for name, texts in REPORTS.items() for v in texts])
def test_wrong_kernels_are_reported(name: str, variant: str, seed: int) -> None:
    for order in range(len(emulator.ORDERS)):
        status, text = run(variant, name, "wrong", str(order), str(seed))
        assert status != 0
        assert re.search(REPORTS[name][variant], text), text

"""What is saved is found again, whole; what was broken on the way is refused with the reason."""

import ast
import errno
import fcntl
import hashlib
import json
import os
import resource
import signal
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import keyhole
from benchmarks import durability
from benchmarks.kills import estimator, forked, kills, table
from benchmarks.mutants import manifest_of, seal
from keyhole import AnomalyDetector, Autoencoder
from keyhole.core import files
from keyhole.core.parts import kinds, parse
from keyhole.errors import BundleError, FileError, KeyholeWarning, SettingError
from keyhole.store import read_bundle, write_bundle
from keyhole.training import TrainingConfig, checkpoint

HOUSE = Path(keyhole.__file__).parent
FORBIDDEN = {"pickle", "joblib", "cloudpickle", "dill", "marshal", "shelve", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.save", "np.load", "np.save"}
IMPORTS = {"import_module", "importlib.import_module"}  # only of rooms of the house


@pytest.fixture(scope="module")
def rows():
    return table(1_200).select(["x", "gappy", "kind", "yes", "n", "when"])


@pytest.fixture(scope="module")
def few(rows):
    return rows.select(["x", "n"])


@pytest.fixture(scope="module")
def model(rows):
    return estimator(0, 60).fit(rows)


@pytest.fixture(scope="module")
def other(rows):
    return estimator(1, 60).fit(rows)


@pytest.fixture
def bundle(model, tmp_path):
    model.save(str(tmp_path / "m"))
    return tmp_path / "m"


def refused(path, *words):
    """The bundle is refused, and the reason holds these words."""
    with pytest.raises(BundleError) as caught:
        Autoencoder.load(str(path))
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert "\n" not in said


def altered(path, change):
    """Change the manifest as an attacker would: with checksums counted again."""
    manifest = manifest_of(path)
    change(manifest["sections"]["autoencoder"])
    seal(path, manifest)


def weights(path):
    return (Path(path) / "weights.safetensors").read_bytes()


def hidden(folder):
    return sorted(p.name for p in Path(folder).iterdir() if p.name.startswith("."))


# What is kept.


def test_a_model_saved_and_loaded_scores_in_the_same_bits(model, rows, tmp_path):
    AnomalyDetector.from_fitted(model).save(str(tmp_path / "m"))
    found = AnomalyDetector.load(str(tmp_path / "m"))
    assert np.array_equal(found.autoencoder_.score_samples(rows), model.score_samples(rows))
    assert found.autoencoder_.inverse_transform(np.zeros((3, model.model_.network.width))).equals(
        model.inverse_transform(np.zeros((3, model.model_.network.width)))
    )
    assert np.array_equal(found.p_value(rows), AnomalyDetector.from_fitted(model).p_value(rows))
    assert found.autoencoder_.model_.history == model.model_.history
    assert found.autoencoder_.findings_ == model.findings_


def test_a_bundle_holds_two_files_and_nothing_that_runs(bundle):
    assert sorted(os.listdir(bundle)) == ["manifest.json", "weights.safetensors"]
    manifest = (bundle / "manifest.json").read_text("utf8")
    json.loads(manifest, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert str(bundle.parent) not in manifest  # no path of the machine it was made on
    assert set(load_file(bundle / "weights.safetensors")) == set(
        Autoencoder.load(str(bundle)).model_.network.state_dict()
    )


def test_no_file_of_the_house_can_load_code():
    met = []
    for path in HOUSE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            if isinstance(node, ast.Import):
                met += [(path, a.name) for a in node.names if a.name.split(".")[0] in FORBIDDEN]
            elif isinstance(node, ast.ImportFrom):
                met += [(path, node.module)] if str(node.module).split(".")[0] in FORBIDDEN else []
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                own = called in IMPORTS and ast.unparse(node.args[0]).startswith("f'keyhole.")
                met += [(path, called)] if called in CALLS | IMPORTS and not own else []
    assert met == []


def test_weights_that_are_no_numbers_are_not_saved(model, bundle):
    before = weights(bundle)
    state = dict(model.model_.network.state_dict()) | {"x": torch.tensor([1.0, torch.nan])}
    with pytest.raises(BundleError, match="'x' are not numbers; the model is not saved"):
        write_bundle(str(bundle), {}, state)
    with pytest.raises(BundleError, match="cannot be saved"):
        write_bundle(str(bundle), {"detect": {"rate": float("nan")}}, {})
    assert weights(bundle) == before
    assert hidden(bundle.parent) == []


# What is refused.


def test_what_is_no_bundle_is_refused_with_the_reason(tmp_path):
    refused(tmp_path / "absent", "does not exist")
    refused(tmp_path, "no keyhole model", "manifest.json cannot be read")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "Not a directory")
    refused("a\0b", "no path")
    (tmp_path / "manifest.json").write_text("[1]")
    refused(tmp_path, "holds no object")


def test_a_truncated_bundle_is_refused_with_the_reason(bundle):
    whole = weights(bundle)
    for size in (0, 7, 100, len(whole) - 1):
        (bundle / "weights.safetensors").write_bytes(whole[:size])
        refused(bundle, "truncated")
    (bundle / "weights.safetensors").write_bytes(whole)
    text = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(text[: len(text) // 2])
    refused(bundle, "manifest.json", "cut short")


def test_an_altered_bundle_is_refused_with_the_reason(bundle):
    whole = bytearray(weights(bundle))
    whole[-1] ^= 1
    (bundle / "weights.safetensors").write_bytes(whole)
    refused(bundle, "altered", "weights do not match the checksum")
    text = (bundle / "manifest.json").read_text("utf8")
    (bundle / "manifest.json").write_text(text.replace('"rows": 1200', '"rows": 1201'), "utf8")
    refused(bundle, "altered", "manifest does not match its checksum")


def test_a_newer_format_names_both_versions_and_the_cure(bundle):
    manifest = manifest_of(bundle)
    manifest["format"] = 7
    manifest["sha256"] = "counted another way"
    (bundle / "manifest.json").write_text(json.dumps(manifest), "utf8")
    refused(bundle, "has format 7", "reads up to 1", "pip install --upgrade keyhole-ae")


@pytest.mark.parametrize(
    ("literal", "reason"),
    [
        ("NaN", "NaN is no number"),
        ("1e999", "1e999 is too large for a number"),
        ("9" * 400, "too large for a whole number"),
        ("[" * 40 + "]" * 40, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('1, "rows": 2', "key 'rows' stands twice"),
        ('"\\ud800"', "surrogates not allowed"),
    ],
)
def test_json_that_the_standard_reader_lets_pass_is_refused(bundle, literal, reason):
    text = (bundle / "manifest.json").read_text("utf8")
    (bundle / "manifest.json").write_text(
        text.replace('"rows": 1200', f'"rows": {literal}', 1), "utf8"
    )
    refused(bundle, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda kept: kept["parts"]["net"].update(hidden=[65_536, 65_536]), "do not belong"),
        (lambda kept: kept["parts"]["net"].update(hidden=[1] * 30_000), "more weights than"),
        (lambda kept: kept["parts"]["bottleneck"].update(width=2**40), "65,536"),
        (lambda kept: kept["parts"]["bottleneck"].update(width=4.0), "width=4.0 is not"),
        (lambda kept: kept["parts"]["bottleneck"].update(kind="os.system"), "unknown bottleneck"),
        (lambda kept: kept["parts"]["net"].update(init="os.system"), "does not know ['init']"),
        (lambda kept: kept.update(members=2**40), "members: from 1 to 64"),
        (lambda kept: kept.update(hook="x"), "key that this version does not know: 'hook'"),
        (lambda kept: kept.pop("typical_nats"), "has no 'typical_nats'"),
        (lambda kept: kept["typical_nats"].pop(), "typical_nats: one for each column"),
        (lambda kept: kept["data"].update(container="os"), "container: a kind of table"),
        (lambda kept: kept["history"].update(loss=["x"]), "history.loss=['x'] is not list"),
        (lambda kept: column(kept, "kind").update(levels=4 * 10**9), "levels=4000000000 is not"),
        (lambda kept: column(kept, "kind").update(counts=[1]), "column 'kind' has an odd cell"),
        (lambda kept: column(kept, "kind").update(rows=-2), "column 'kind' has an odd cell"),
        (lambda kept: column(kept, "n").update(scale=0.0), "column 'n' has an odd cell"),
        (lambda kept: column(kept, "x").update(scale=0.0), "cells that are not numbers"),
        (lambda kept: column(kept, "x").update(range=[1.0]), "pairs of numbers"),
        (lambda kept: column(kept, "x").update(name="n"), "data.columns: those of the table"),
        (lambda kept: column(kept, "when").update(style="%n" * 9_999),
            "unsupported datetime format"),
        (lambda kept: column(kept, "when").update(parts=["day"] * 9_999), "then cycles once"),
    ],
)  # fmt: skip
def test_a_manifest_that_asks_for_what_no_fit_makes_is_refused_at_once(bundle, change, reason):
    altered(bundle, change)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    refused(bundle, reason)
    assert time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kB


def column(kept, name):
    """A column's recipe."""
    return next(c for c in kept["modality"]["columns"] if c["name"] == name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda header, name: header.update({"../../x": header.pop(name)}), "name that is none"),
        (lambda header, name: header.update(extra=header.pop(name)), "do not belong together"),
        (lambda header, name: header[name].update(dtype="F16"), "odd type or shape"),
        (lambda header, name: header[name].update(shape=[2**62]), "odd type or shape"),
        (lambda header, name: header[name].update(shape=[65_536, 65_536]), "its header says"),
        (lambda header, name: header.update({f"t{i}": {} for i in range(5_000)}), "of 5,0"),
        (lambda header, name: header[name].update(data_offsets=[0, 4]), "is damaged"),
    ],
)  # fmt: skip
def test_a_header_of_lies_is_refused(bundle, change, reason):
    content = weights(bundle)
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    change(header, next(iter(header)))
    said = json.dumps(header).encode()
    (bundle / "weights.safetensors").write_bytes(
        struct.pack("<Q", len(said)) + said + content[8 + size :]
    )
    seal(bundle, manifest_of(bundle))
    refused(bundle, reason)


def test_duplicate_tensors_and_large_claims_are_refused(bundle):
    content = weights(bundle)
    size = struct.unpack("<Q", content[:8])[0]
    said = content[8 : 8 + size].rstrip()
    twice = said[:-1] + b"," + said[1:]
    for header, claim, reason in ((twice, len(twice), "stands twice"), (said, 2**63, "truncated")):
        whole = struct.pack("<Q", claim) + header + content[8 + size :]
        (bundle / "weights.safetensors").write_bytes(whole)
        seal(bundle, manifest_of(bundle))
        refused(bundle, reason)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bundle, value):
    held = load_file(bundle / "weights.safetensors")
    held["decoder.layers.0.bias"][..., 3] = value
    save_file(held, bundle / "weights.safetensors")
    seal(bundle, manifest_of(bundle))
    refused(bundle, "not numbers", "decoder.layers.0.bias")


def test_a_pipe_or_a_device_in_a_bundle_is_not_read(bundle):
    for name in ("manifest.json", "weights.safetensors"):
        kept = (bundle / name).read_bytes()
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        refused(bundle, name, "is no file")
        (bundle / name).unlink()
        (bundle / name).symlink_to("/dev/zero")
        refused(bundle, name, "is no file")
        (bundle / name).unlink()
        (bundle / name).write_bytes(kept)
    assert Autoencoder.load(str(bundle)).model_.rows == 1_200


def test_two_hundred_broken_bundles_meet_only_our_own_errors(bundle, model, tmp_path):
    """Takes seconds. Half of them keep a detector too, and the rows that it compares with."""
    AnomalyDetector.from_fitted(model).save(str(tmp_path / "d"))
    line = durability.mutations(200, 7, tmp_path, [bundle, tmp_path / "d"])
    assert durability.held(line), line
    assert line["refused"] + line["answered"] + line["rows_refused"] == 200
    assert line["answered"] >= 10  # some changes are harmless, and the rest must then work


# How it is written.


def test_ten_kills_leave_a_bundle_that_loads_and_a_run_that_ends_the_same(tmp_path):
    line = kills(10, 3, tmp_path, steps=60)
    assert durability.held(line), line
    assert line["killed_training"] >= 1  # where each was cut depends on the load of the machine


STEPS = ("replace", "mkdir", "fsync", "open", "unlink", "rmdir")


def test_a_save_killed_at_any_step_leaves_the_old_bundle_or_the_new(model, other, tmp_path):
    path, met = tmp_path / "m", set()
    model.save(str(path))
    models = [other, model]
    old_new = {hashlib.sha256(weights(save_to(m, tmp_path / "w"))).digest() for m in models}
    for step in range(1, 200):
        pid = forked(lambda step=step: killed_at(step, lambda: models[step % 2].save(str(path))))
        _, status = os.waitpid(pid, 0)
        found = read_bundle(str(path))
        place = files.standing_folder(path)
        assert hashlib.sha256(weights(place)).digest() in old_new
        Autoencoder.from_bundle(found)
        met.add(place.name)
        if status == 0:
            break
    assert os.WIFSIGNALED(status) is False
    assert step > 20  # every call of the save had its turn
    assert met == {"m", ".m.old"}  # also the one between the two renames
    assert hidden(tmp_path) == []  # the last save cleared what the kills had left


def save_to(model, path):
    """The path of a saved model."""
    model.save(str(path))
    return path


def killed_at(step, work):
    """Do some work and die at the given call to the operating system."""
    left = [step]

    def counted(call):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapped

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    work()


def test_readers_beside_two_writers_always_find_a_whole_bundle(model, other, tmp_path):
    path = str(tmp_path / "m")
    model.save(path)

    def writes():
        while True:
            other.save(path)
            model.save(path)

    pids, end, reads = [forked(writes), forked(writes)], time.monotonic() + 0.8, 0
    try:
        while time.monotonic() < end:
            assert Autoencoder.load(path).random_state in {0, 1}
            reads += 1
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        ends = [os.waitpid(pid, 0)[1] for pid in pids]
    assert reads > 2
    assert all(os.WIFSIGNALED(status) for status in ends)  # neither writer failed


def test_reading_writes_nothing_so_a_read_only_disk_will_do(bundle, monkeypatch):
    os.replace(bundle, bundle.with_name(".m.old"))  # as a kill between the two renames leaves it

    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("replace", "rename", "mkdir", "unlink", "rmdir", "remove"):
        monkeypatch.setattr(os, name, read_only)
    assert Autoencoder.load(str(bundle)).model_.rows == 1_200


@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace", "write_bytes"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "permission is denied"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_fault_of_the_disk_is_one_clear_error_and_the_old_bundle_stays(
    bundle, other, monkeypatch, call, fault, reason
):
    before = weights(bundle)

    def fails(*args, **kwargs):
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch:
        patch.setattr(Path if call == "write_bytes" else os, call, fails)
        with pytest.raises(FileError) as caught:
            other.save(str(bundle))
    assert reason in str(caught.value)
    assert "nothing that existed was changed" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert weights(bundle) == before
    assert hidden(bundle.parent) == []


def test_a_file_that_may_not_grow_leaves_the_old_bundle(bundle, other):
    before = weights(bundle)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))
        with pytest.raises(FileError, match="File too large; nothing that existed was changed"):
            other.save(str(bundle))

    _, status = os.waitpid(forked(limited), 0)
    assert status == 0
    assert weights(bundle) == before
    assert hidden(bundle.parent) == []


def test_an_interrupt_between_the_two_renames_leaves_the_old_bundle(bundle, other, monkeypatch):
    before, replace = weights(bundle), os.replace

    def interrupted(source, target):
        if Path(target) == bundle and Path(source).suffix == ".tmp":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        other.save(str(bundle))
    assert weights(bundle) == before
    assert hidden(bundle.parent) == []


def test_the_next_save_clears_what_kills_left_but_nothing_in_use(bundle, model):
    left, used = bundle.with_name(".m.0123abcd.tmp"), bundle.with_name(".m.89abcdef.tmp")
    others = bundle.with_name(".m.notours.tmp")
    for folder in (left, used, others):
        folder.mkdir()
        (folder / "weights.safetensors").write_text("half")
    handle = os.open(used, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    model.save(str(bundle))
    os.close(handle)
    assert hidden(bundle.parent) == sorted([used.name, others.name])


def test_a_save_never_removes_what_is_no_part_of_a_model(bundle, model, tmp_path):
    (bundle / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"holds 'notes.txt', which is no part of a model"):
        model.save(str(bundle))
    (tmp_path / "data.csv").write_text("mine")
    with pytest.raises(FileError, match="is a file; give the name of a folder"):
        model.save(str(tmp_path / "data.csv"))
    for nowhere in ("", "/", "a\0b"):
        with pytest.raises(FileError):
            model.save(nowhere)
    assert (bundle / "notes.txt").read_text() == (tmp_path / "data.csv").read_text() == "mine"


def test_a_save_follows_a_link(bundle, other, tmp_path):
    (tmp_path / "latest").symlink_to(bundle)
    other.save(str(tmp_path / "latest"))
    assert (tmp_path / "latest").is_symlink()
    assert Autoencoder.load(str(bundle)).random_state == 1


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "f"
    files.write_whole(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(FileError, match="disk is full"):
            files.write_whole(path, "new")
    with pytest.raises(FileError, match=f"folder {tmp_path}/absent does not exist"):
        files.write_whole(tmp_path / "absent" / "f", "new")
    assert path.read_text() == "old"
    files.write_whole("/dev/null", "new")  # a device is written, never replaced
    assert not Path("/dev/null").is_file()
    assert hidden(tmp_path) == []


# How a run goes on.


class StoppedError(Exception):
    """A run that is stopped half-way."""


def stop_at(step):
    """A watcher that stops a run."""

    def on_evaluate(event):
        if event.step >= step:
            raise StoppedError

    return on_evaluate


def stopped(model, few, path, step=24):
    """Fit and stop half-way, with a checkpoint at every evaluation."""
    with pytest.raises(StoppedError):
        model.fit(few, checkpoint=str(path), on_evaluate=stop_at(step))


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)


@pytest.mark.parametrize("kind", sorted(kinds("bottleneck")))
def test_a_run_that_goes_on_ends_in_the_same_bits(kind, few, tmp_path, always):
    def fresh():
        return Autoencoder(
            parse("bottleneck", kind), training=TrainingConfig(steps=40, batch=64), random_state=5
        )

    whole, steps = fresh().fit(few), []
    stopped(fresh(), few, tmp_path / "run.part")
    again = fresh()
    again.fit(
        few,
        checkpoint=str(tmp_path / "run.part"),
        on_evaluate=lambda event: steps.append(event.step),
    )
    assert steps[0] >= 23
    for name, tensor in whole.model_.network.state_dict().items():
        assert torch.equal(tensor, again.model_.network.state_dict()[name])
    assert again.model_.history == whole.model_.history
    assert np.array_equal(again.score_samples(few), whole.score_samples(few))
    again.save(str(tmp_path / "m"))
    assert not (tmp_path / "run.part").exists()  # kept until the model was


def test_a_checkpoint_of_other_data_is_not_used(few, tmp_path, always):
    path, steps = tmp_path / "run.part", []
    stopped(estimator(0, 40), few, path)
    with pytest.warns(KeyholeWarning, match="other data, settings or another seed"):
        estimator(0, 40).fit(
            few.slice(1), checkpoint=str(path), on_evaluate=lambda event: steps.append(event.step)
        )
    assert steps[0] == 0


def test_a_damaged_checkpoint_is_not_used(few, tmp_path, always):
    path, steps = tmp_path / "run.part", []
    stopped(estimator(0, 40), few, path)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.warns(KeyholeWarning, match="was altered: it does not match its checksum"):
        estimator(0, 40).fit(
            few, checkpoint=str(path), on_evaluate=lambda event: steps.append(event.step)
        )
    assert steps[0] == 0


def test_a_run_without_a_seed_goes_on_with_the_one_it_drew(few, tmp_path, always):
    path, steps = tmp_path / "run.part", []
    stopped(estimator(None, 40), few, path)
    estimator(None, 40).fit(
        few, checkpoint=str(path), on_evaluate=lambda event: steps.append(event.step)
    )
    assert steps[0] >= 23


def test_a_checkpoint_that_cannot_be_written_is_said_before_training(few, tmp_path):
    with pytest.raises(FileError, match="does not exist; nothing that existed was changed"):
        estimator(0, 40).fit(few, checkpoint=str(tmp_path / "absent" / "run.part"))


# Parts in words.


@pytest.mark.parametrize(
    ("text", "reason"),
    [("plain:width=x", "width='x' is not"), ("plain:w=1", "does not know 'w=1'"), ("no", "no")],
)
def test_a_part_in_words_is_checked_like_one_in_a_file(text, reason):
    with pytest.raises(SettingError, match=reason):
        parse("bottleneck", text)

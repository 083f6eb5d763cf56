"""What is saved is found again, whole; what was broken on the way is refused with the reason."""

import ast
import errno
import fcntl
import hashlib
import json
import os
import resource
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import keyhole
from benchmarks import durability
from benchmarks.kills import estimator, forked, kills, table
from benchmarks.mutants import join, manifest_of, seal, split, write_raw
from keyhole import AnomalyDetector, Autoencoder
from keyhole.core import files
from keyhole.core.parts import kinds, parse
from keyhole.errors import BundleError, FileError, KeyholeWarning, SettingError
from keyhole.store import bundle as bundle_module
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
    """The numbers in a model's file, by name."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


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


def test_a_bundle_is_one_file_that_any_reader_opens_and_nothing_in_it_runs(bundle):
    assert bundle.is_file()
    with safe_open(bundle, framework="np") as file:
        metadata = file.metadata()
    manifest = metadata["keyhole"]
    json.loads(manifest, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert str(bundle.parent) not in manifest  # no path of the machine it was made on
    network = Autoencoder.load(str(bundle)).model_.network.state_dict()
    assert weights(bundle) == {name: tensor.numpy().tobytes() for name, tensor in network.items()}
    header, data = split(bundle)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    text = manifest + json.dumps(entries, sort_keys=True)  # as docs/format.md says
    assert metadata["sha256"] == hashlib.sha256(text.encode() + data).hexdigest()


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
    before = bundle.read_bytes()
    state = dict(model.model_.network.state_dict()) | {"x": torch.tensor([1.0, torch.nan])}
    with pytest.raises(BundleError, match="'x' are not float32 numbers; the model is not saved"):
        write_bundle(str(bundle), {}, state)
    with pytest.raises(BundleError, match="cannot be saved"):
        write_bundle(str(bundle), {"detect": {"rate": float("nan")}}, {})
    assert bundle.read_bytes() == before
    assert hidden(bundle.parent) == []


# What is refused.


def test_what_is_no_bundle_is_refused_with_the_reason(tmp_path):
    refused(tmp_path / "absent", "does not exist", "give a file that keyhole fit or save wrote")
    refused(tmp_path, "is a folder", "give a file that keyhole fit or save wrote")
    (tmp_path / "file").write_text("a,b\n1,2\n" * 9)
    refused(tmp_path / "file", "truncated, too large or not a keyhole model", "give")
    refused(tmp_path / "file" / "m", "a part of its path is a file")
    refused("a\0b", "not a path")
    save_file({"x": torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "others")
    refused(tmp_path / "others", "is not a keyhole model", "it has no manifest")
    save_file({}, tmp_path / "others", {"keyhole": "[1]"})
    refused(tmp_path / "others", "it has no manifest")
    bundle_module.write_tensors(tmp_path / "list", {}, "[1]")
    refused(tmp_path / "list", "is not a keyhole model")
    bundle_module.write_tensors(tmp_path / "run.part", {}, '{"step": 3}')
    refused(tmp_path / "run.part", "is not a keyhole model: its format is None")


def test_a_truncated_bundle_is_refused_with_the_reason(bundle):
    whole = bundle.read_bytes()
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        bundle.write_bytes(whole[:size])
        refused(bundle, "truncated")
    text = split_text(whole)
    write_raw(bundle, text[: len(text) // 2], whole)
    refused(bundle, "is damaged or cut short")
    bundle.write_bytes(whole)
    manifest = json.dumps(manifest_of(bundle))
    seal(bundle, manifest[: len(manifest) // 2])
    refused(bundle, "manifest", "cut short")


def split_text(content):
    """The header of a file as text."""
    return content[8 : 8 + int.from_bytes(content[:8], "little")].decode()


def test_an_altered_bundle_is_refused_with_the_reason(bundle):
    whole = bundle.read_bytes()
    changed = bytearray(whole)
    changed[-1] ^= 1
    for content in (
        changed,  # a weight
        whole.replace(b'"rows\\": 1200', b'"rows\\": 1201'),  # the manifest
        whole.replace(b"encoder.layers.0.bias", b"encoder.layers.0.biaz"),  # a name
    ):
        assert content != whole
        bundle.write_bytes(content)
        refused(bundle, "altered")


def test_a_newer_format_names_both_versions_and_the_cure(bundle):
    header, data = split(bundle)
    manifest = manifest_of(bundle) | {"format": 7}
    header["__metadata__"] = {"keyhole": json.dumps(manifest), "sha256": "counted another way"}
    write_raw(bundle, json.dumps(header), data)
    refused(bundle, "has format 7", "reads up to 1", "pip install --upgrade keyhole-ae")


@pytest.mark.parametrize(
    ("literal", "reason"),
    [
        ("NaN", "NaN is not a number"),
        ("1e999", "1e999 is too large for a number"),
        ("9" * 400, "too large for a whole number"),
        ("[" * 40 + "]" * 40, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('1, "rows": 2', "key 'rows' appears twice"),
        ('"\\ud800"', "surrogates not allowed"),
    ],
)
def test_json_that_the_standard_reader_lets_pass_is_refused(bundle, literal, reason):
    whole = bundle.read_bytes()
    text = json.dumps(manifest_of(bundle), ensure_ascii=False)
    seal(bundle, text.replace('"rows": 1200', f'"rows": {literal}', 1))
    refused(bundle, reason)
    header = split_text(whole)  # and the same in the header around the manifest
    first = header.index('"shape":[') + len('"shape":[')
    end = header.index("]", first)
    write_raw(bundle, header[:first] + literal.replace("rows", "shape") + header[end:], b"")
    if '"rows"' not in literal:
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
        (lambda kept: column(kept, "kind").update(counts=[1]), "'kind' has an invalid feature"),
        (lambda kept: column(kept, "kind").update(rows=-2), "'kind' has an invalid feature"),
        (lambda kept: column(kept, "n").update(scale=0.0), "column 'n' has an invalid feature"),
        (lambda kept: column(kept, "x").update(scale=0.0), "values that are NaN or infinite"),
        (lambda kept: column(kept, "x").update(range=[1.0]), "pairs of numbers"),
        (lambda kept: column(kept, "x").update(name="n"), "data.columns: those of the table"),
        (lambda kept: column(kept, "when").update(style="%n" * 9_999),
            "unsupported datetime format"),
        (lambda kept: column(kept, "when").update(parts=["day"] * 9_999), "at most once"),
    ],
)  # fmt: skip
def test_a_manifest_that_asks_for_what_no_fit_makes_is_refused_at_once(bundle, change, reason):
    altered(bundle, change)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    refused(bundle, reason)
    assert time.process_time() - start < 10  # what the manifest asks for would take hours
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kB


def column(kept, name):
    """A column's recipe."""
    return next(c for c in kept["modality"]["columns"] if c["name"] == name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda header, name: header.update({"../../x": header.pop(name)}), "invalid name"),
        (lambda header, name: header.update(extra=header.pop(name)), "do not belong together"),
        (lambda header, name: header[name].update(dtype="F16"), "invalid type or shape"),
        (lambda header, name: header[name].update(shape=[2**62]), "invalid type or shape"),
        (lambda header, name: header[name].update(shape=[-1, -1]), "invalid type or shape"),
        (lambda header, name: header[name].update(data_offsets=[0, 2**62]), "is damaged"),
        (lambda header, name: header[name].update(shape=[65_536, 65_536]), "its header says"),
        (lambda header, name: header.update({f"t{i}": {} for i in range(5_000)}), "has 5,0"),
        (lambda header, name: header[name].update(data_offsets=[0, 4]), "is damaged"),
        (lambda header, name: moved(header[name], 4), "is damaged"),  # they overlap
        (lambda header, name: moved(header[name], 10**9), "is damaged"),
        (lambda header, name: moved(header[list(header)[-1]], 4), "is damaged"),  # a hole
        (lambda header, name: header.update(twin=header[name]), "bytes, its header says"),
        (lambda header, name: header.update(more=beyond(header)), "bytes, its header says"),
        (lambda header, name: header.pop(name), "bytes, its header says"),
    ],
)  # fmt: skip
def test_a_header_of_lies_is_refused(bundle, change, reason):
    header, data = split(bundle)
    change(header, list(header)[1])
    join(bundle, header, data)
    refused(bundle, reason)


def moved(entry, count):
    """Have a tensor stand elsewhere in the file."""
    entry["data_offsets"] = [place + count for place in entry["data_offsets"]]


def beyond(header):
    """A tensor behind the last one, where the file has ended."""
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_")
    return {"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}


def test_duplicate_tensors_and_large_claims_are_refused(bundle):
    _, data = split(bundle)
    text = split_text(bundle.read_bytes()).rstrip()
    twice = text[:-1] + "," + text[1:]
    for header, claim, reason in (
        (twice, None, "appears twice"),
        (text, 2**63, "truncated"),
        (text, 0, "truncated"),
    ):
        write_raw(bundle, header, data, claim)
        refused(bundle, reason)


@pytest.mark.parametrize(
    ("megabytes", "text"),
    [(31, "[{}]"), (31, '{"a":1}'), (31, "[1]"), (31, "a"), (31, "0.5e300"), (33, "a")],
)
def test_a_large_header_is_refused_before_it_is_parsed(bundle, megabytes, text):
    """Each of these would take many seconds; takes parts of one."""
    header, data = split(bundle)
    inner = "[" + ",".join([text] * ((megabytes << 20) // (len(text) + 1))) + "]"
    header["__metadata__"]["keyhole"] = inner
    write_raw(bundle, json.dumps(header), data)
    start = time.process_time()
    refused(bundle, str(bundle))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bundle, value):
    header, _ = split(bundle)
    tensors_of = load_file(bundle)
    tensors_of["decoder.layers.0.bias"][..., 3] = value
    bundle_module.write_tensors(bundle, tensors_of, header["__metadata__"]["keyhole"])
    refused(bundle, "NaN or infinite", "decoder.layers.0.bias")


def test_a_pipe_or_a_device_is_not_read(bundle):
    whole = bundle.read_bytes()
    bundle.unlink()
    os.mkfifo(bundle)
    refused(bundle, "is not a regular file")
    bundle.unlink()
    bundle.symlink_to("/dev/zero")
    refused(bundle, "is not a regular file")
    bundle.unlink()
    bundle.write_bytes(whole)
    assert Autoencoder.load(str(bundle)).model_.rows == 1_200


def test_sixty_broken_bundles_meet_only_our_own_errors(bundle, model, tmp_path):
    """Takes seconds. Half of them keep a detector too, and the rows that it compares with."""
    AnomalyDetector.from_fitted(model).save(str(tmp_path / "d"))
    line = durability.mutations(60, 7, tmp_path, [bundle, tmp_path / "d"])
    assert durability.held(line), line
    assert line["refused"] + line["answered"] + line["rows_refused"] == 60
    assert line["answered"] >= 3  # some changes are harmless, and the rest must then work


# How it is written.


def test_six_kills_leave_a_bundle_that_loads_and_a_run_that_ends_the_same(tmp_path):
    line = kills(6, 3, tmp_path, steps=30)
    assert durability.held(line), line
    assert line["killed_training"] >= 1  # where each was cut depends on the load of the machine


STEPS = ("replace", "mkdir", "fsync", "open", "unlink", "rmdir", "close", "listdir")


def test_a_save_killed_at_any_step_leaves_the_old_bundle_or_the_new(model, other, tmp_path):
    path, met = tmp_path / "m", []
    model.save(str(path))
    models = [other, model]
    old_new = [weights(save_to(m, tmp_path / "w")) for m in models]
    for step in range(1, 200):
        pid = forked(lambda step=step: killed_at(step, lambda: models[step % 2].save(str(path))))
        _, status = os.waitpid(pid, 0)
        met.append(old_new.index(weights(path)))
        Autoencoder.load(read_bundle(str(path)))
        if status == 0:
            break
    assert os.WIFSIGNALED(status) is False
    assert step > 10  # every call of the save had its turn
    assert set(met) == {0, 1}  # the old one stayed, and the new one came
    assert hidden(tmp_path) == []  # the last save cleared what the kills had left


def test_a_save_killed_while_it_writes_leaves_the_old_bundle(bundle, other, model):
    before = bundle.read_bytes()
    for size in (0, 4, 3_000, 15_000):
        pid = forked(lambda size=size: killed_at_byte(size, lambda: other.save(str(bundle))))
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status)
        assert bundle.read_bytes() == before
        (left,) = hidden(bundle.parent)
        assert (bundle.parent / left).stat().st_size == size
    other.save(str(bundle))
    assert hidden(bundle.parent) == []
    assert Autoencoder.load(str(bundle)).random_state == 1


def killed_at_byte(size, work):
    """Do some work and die once a file of this size is written."""

    @contextmanager
    def cut(path, mode):
        with open(path, mode) as file:
            yield SimpleNamespace(read=file.read, write=lambda content: write(file, content))

    def write(file, content):
        file.write(bytes(content)[: size - file.tell()])
        if file.tell() == size:
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    bundle_module.open = cut
    work()


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
        while time.monotonic() < end or reads <= 2:  # a busy machine may need longer
            assert Autoencoder.load(path).random_state in {0, 1}
            reads += 1
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        ends = [os.waitpid(pid, 0)[1] for pid in pids]
    assert reads > 2
    assert all(os.WIFSIGNALED(status) for status in ends)  # neither writer failed


def test_reading_writes_nothing_so_a_read_only_disk_will_do(bundle, monkeypatch):
    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("replace", "rename", "mkdir", "unlink", "rmdir", "remove"):
        monkeypatch.setattr(os, name, read_only)
    assert Autoencoder.load(str(bundle)).model_.rows == 1_200


@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace", "write"])
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
    before = bundle.read_bytes()

    def fails(*args, **kwargs):
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(bundle_module, "open", fails, raising=False)
        else:
            patch.setattr(os, call, fails)
        with pytest.raises(FileError) as caught:
            other.save(str(bundle.parent / "new" / "m" if call == "mkdir" else bundle))
    assert reason in str(caught.value)
    assert "existing files are unchanged" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert bundle.read_bytes() == before
    assert hidden(bundle.parent) == []


def test_a_file_that_may_not_grow_leaves_the_old_bundle(bundle, other):
    before = bundle.read_bytes()

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))
        with pytest.raises(FileError, match="File too large; existing files are unchanged"):
            other.save(str(bundle))

    _, status = os.waitpid(forked(limited), 0)
    assert status == 0
    assert bundle.read_bytes() == before
    assert hidden(bundle.parent) == []


def test_an_interrupt_of_a_save_leaves_the_old_bundle(bundle, other, monkeypatch):
    before = bundle.read_bytes()

    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        other.save(str(bundle))
    assert bundle.read_bytes() == before
    assert hidden(bundle.parent) == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(errno.EIO, "fault")])
def test_a_fault_between_the_two_renames_of_a_folder_leaves_the_old_one(
    tmp_path, monkeypatch, fault
):
    target, replace = tmp_path / "copy.zarr", os.replace
    for content in ("old", "new"):
        with files.atomic_folder(target) as folder:
            (folder / "chunk").write_text(content)
    assert (target / "chunk").read_text() == "new"

    def fails(source, place):
        if Path(place) == target and (Path(source) / "chunk").read_text() == "newer":
            raise fault
        replace(source, place)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises((KeyboardInterrupt, FileError)), files.atomic_folder(target) as folder:
        (folder / "chunk").write_text("newer")
    assert (target / "chunk").read_text() == "new"
    assert hidden(tmp_path) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match="is a file; give the name of a folder"):
        files.atomic_folder(tmp_path / "file").__enter__()


def test_the_next_save_clears_what_kills_left_but_nothing_in_use(bundle, model):
    left, used = bundle.with_name(".m.0123abcd.tmp"), bundle.with_name(".m.89abcdef.tmp")
    others = bundle.with_name(".m.notours.tmp")
    for file in (left, used, others):
        file.write_text("half")
    handle = os.open(used, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    model.save(str(bundle))
    os.close(handle)
    assert hidden(bundle.parent) == sorted([used.name, others.name])


def test_a_save_never_removes_what_is_no_model(bundle, model, tmp_path):
    (tmp_path / "data.csv").write_text("mine")
    save_file({"x": torch.zeros(3)}, tmp_path / "others")
    others = (tmp_path / "others").read_bytes()
    for name in ("data.csv", "others"):
        with pytest.raises(FileError, match="is not a keyhole model and would be lost"):
            model.save(str(tmp_path / name))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("folder", "is a folder; give"), ("pipe", "is not a regular file; give")):
        with pytest.raises(FileError, match=reason):
            model.save(str(tmp_path / name))
    for nowhere in ("", "/", "a\0b", "/dev/null", str(bundle / "m")):
        with pytest.raises(FileError):
            model.save(nowhere)
    assert (tmp_path / "data.csv").read_text() == "mine"
    assert (tmp_path / "others").read_bytes() == others
    assert hidden(tmp_path) == []


def test_a_save_replaces_a_damaged_model_and_an_empty_file(bundle, model):
    whole = bundle.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        bundle.write_bytes(content)
        model.save(str(bundle))
        assert Autoencoder.load(str(bundle)).model_.rows == 1_200


def test_a_save_makes_the_folders_of_its_path(model, tmp_path):
    model.save(tmp_path / "new" / "folder" / "m")
    assert Autoencoder.load(tmp_path / "new" / "folder" / "m").model_.rows == 1_200


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


def stopped(model, few, path, step=12):
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
            parse("bottleneck", kind), training=TrainingConfig(steps=20, batch=64), random_state=5
        )

    whole, steps = fresh().fit(few), []
    stopped(fresh(), few, tmp_path / "run.part")
    again = fresh()
    again.fit(
        few,
        checkpoint=str(tmp_path / "run.part"),
        on_evaluate=lambda event: steps.append(event.step),
    )
    assert steps[0] >= 11
    for name, tensor in whole.model_.network.state_dict().items():
        assert torch.equal(tensor, again.model_.network.state_dict()[name])
    assert again.model_.history == whole.model_.history
    assert np.array_equal(again.score_samples(few), whole.score_samples(few))
    again.save(str(tmp_path / "m"))
    assert not (tmp_path / "run.part").exists()  # kept until the model was


def test_a_checkpoint_of_other_data_is_not_used(few, tmp_path, always):
    path, steps = tmp_path / "run.part", []
    stopped(estimator(0, 20), few, path)
    with pytest.warns(KeyholeWarning, match="other data, settings or another seed"):
        estimator(0, 20).fit(
            few.slice(1), checkpoint=str(path), on_evaluate=lambda event: steps.append(event.step)
        )
    assert steps[0] == 0


def test_a_damaged_checkpoint_is_not_used(few, tmp_path, always):
    path, steps = tmp_path / "run.part", []
    stopped(estimator(0, 20), few, path)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.warns(KeyholeWarning, match="was altered: it does not match its checksum"):
        estimator(0, 20).fit(
            few, checkpoint=str(path), on_evaluate=lambda event: steps.append(event.step)
        )
    assert steps[0] == 0


def test_a_run_without_a_seed_goes_on_with_the_one_it_drew(few, tmp_path, always):
    path, steps = tmp_path / "run.part", []
    stopped(estimator(None, 20), few, path)
    estimator(None, 20).fit(
        few, checkpoint=str(path), on_evaluate=lambda event: steps.append(event.step)
    )
    assert steps[0] >= 11


def test_a_checkpoint_that_cannot_be_written_is_said_before_training(few, tmp_path):
    with pytest.raises(FileError, match="does not exist; existing files are unchanged"):
        estimator(0, 20).fit(few, checkpoint=str(tmp_path / "absent" / "run.part"))


# Parts in words.


@pytest.mark.parametrize(
    ("text", "reason"),
    [("plain:width=x", "width='x' is not"), ("plain:w=1", "does not know 'w=1'"), ("no", "no")],
)
def test_a_part_in_words_is_checked_like_one_in_a_file(text, reason):
    with pytest.raises(SettingError, match=reason):
        parse("bottleneck", text)

"""Digests are of content: not of names, of the order of keys, or of how a file is read."""

import hashlib

from mnpo.common.digests import SIZE, bytes_digest, data_digest, file_digest


def test_the_order_of_keys_does_not_count_and_values_do():
    assert data_digest({"a": 1, "b": [2.5, None]}) == data_digest({"b": [2.5, None], "a": 1})
    assert data_digest({"a": 1}) != data_digest({"a": 1.5})
    assert data_digest("a", "b") != data_digest("b", "a")
    assert len(data_digest()) == 2 * SIZE


def test_a_file_has_the_digest_of_its_bytes(tmp_path):
    content = bytes(range(256)) * 1000
    (tmp_path / "one").write_bytes(content)
    (tmp_path / "two").write_bytes(content)
    assert file_digest(tmp_path / "one") == file_digest(tmp_path / "two") == bytes_digest(content).hex()
    assert bytes_digest(content, 20) == hashlib.blake2b(content, digest_size=20).digest()

"""config.yml is read strictly: a mistake in it is one line that names the file and the setting."""

import pytest

from src.errors import ConfigError
from src.hw10.parts import HOMEWORK, MODELS
from src.hw10.settings import read_config

RIGHT = (HOMEWORK.home / "config.yml").read_text(encoding="utf-8")


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "config.yml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def test_the_bundled_one(write):
    config = read_config(write(RIGHT))
    assert set(config.experiments) == set(MODELS)
    assert all(training.iterations > 1 for training in config.experiments.values())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed:", "sed:", "must have the settings seed, vae, gan, ddpm, continual, prompting, and no others"),
        ("seed: 182", "seed: -1", "seed is -1; it must be a whole number from 0 on"),
        ("batch_size: 100", "batch_size: 0", "vae: batch_size is 0; it must be a whole number above 0"),
        ("batch_size: 100", "batch_size: 2.5", "vae: batch_size is 2.5; it must be a whole number above 0"),
        ("batch_size: 100", "batch_size: many", "vae: batch_size is 'many'; it must be a whole number above 0"),
        ("batch_size: 100, ", "", "vae must have the settings iterations, batch_size, learning_rate, seeds"),
        ("learning_rate: 2.0e-3", "learning_rate: .nan", "vae: learning_rate is nan; it must be a number above 0"),
        ("seed: 182", "[", "cannot be read"),
        ("vae:", "vea:", "and no others; vae is missing, 'vea' is none of them"),
        ("batch_size: 100", "batch: 100", "seeds, and no others; batch_size is missing, 'batch' is none of them"),
        ("2.0e-3", "2e-3", "learning_rate is '2e-3'; it must be a number above 0, and YAML takes this for text"),
    ],
)
def test_a_mistake_is_named(write, old, new, message):
    path = write(RIGHT.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        read_config(path)
    assert message in str(error.value)
    assert "config.yml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "config.yml")

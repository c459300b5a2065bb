"""Names and attributes of the cube's format."""

import pytest

from geoae import schema
from geoae.errors import UsageError


@pytest.mark.parametrize("name", ["pca", "vae-128", "k_8", "2025.1", "a"])
def test_good_names_of_layers(name):
    assert schema.layer_path("latents", name) == f"latents/{name}"


@pytest.mark.parametrize("name", ["", ".", "..", "-x", ".x", "a/b", "../x", "a b", "ä", "a\n", "c:d", "a\0"])
def test_names_that_would_leave_the_group_are_refused(name):
    with pytest.raises(UsageError, match="cannot name a layer"):
        schema.layer_path("latents", name)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="splits, latents"):
        schema.layer_path("latent", "pca")


def test_only_the_default_split_and_summary_keep_plain_names():
    def merged(kind, name, variable):
        return schema.merged_name(kind, name, variable, default_table="dfc2019")

    assert merged("splits", "default", "split") == "split"
    assert merged("splits", "by-city", "split") == "by-city_split"
    assert merged("summaries", "dfc2019", "purity") == "purity"
    assert merged("summaries", "thesis", "purity") == "thesis_purity"
    assert merged("latents", "default", "z") == "default_z"
    assert schema.merged_name("summaries", "dfc2019", "purity") == "dfc2019_purity"


def test_flags_follow_cf():
    attributes = schema.flag_attributes([2, 17], ["ground", "bridge or  elevated\troad"])
    assert attributes == {"flag_values": [2, 17], "flag_meanings": "ground bridge_or_elevated_road"}


def test_every_variable_has_a_long_name_and_a_known_dtype():
    for variables in (schema.PATCH_VARIABLES, schema.SCENE_VARIABLES):
        for dims, dtype, attributes in variables.values():
            assert attributes["long_name"]
            assert dtype in ("str", "int32", "int64", "float64")
            assert all(dim in schema.FIXED_COORDINATES for dim in dims)


def test_no_dimension_has_the_name_of_a_variable_of_another_dimension():
    # groupby breaks where a dimension and a variable over another dimension share a name.
    for variables, dim in ((schema.PATCH_VARIABLES, schema.PATCH), (schema.SCENE_VARIABLES, schema.SCENE)):
        clash = set(variables) & ({schema.PATCH, schema.SCENE, *schema.FIXED_COORDINATES} - {dim})
        assert clash == set()


def test_the_embedding_convention():
    attributes = schema.geoemb_attributes(
        dimensions=64, model="pca", source_data=["US3D"], patch=128, stride=64
    )
    assert attributes["zarr_conventions"][0]["uuid"] == "61c12cc5-0e28-4056-999a-480cf3fb7e4c"
    assert attributes["geoemb:type"] == "chip"
    assert attributes["geoemb:dimensions"] == 64
    assert attributes["geoemb:chip_layout"]["chip_size"] == [128, 128]
    assert attributes["geoemb:chip_layout"]["stride"] == [64, 64]

"""Which tests hold each kind of bad input or fault; every one named here exists.

Where a row names several files, each looks at it from its own side: the guard itself, every format,
the command line, the kernel.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

#: Number of the row: what goes wrong, and the tests. Rows 24 and 25 lack what concerns clusters.
ROWS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "HDF5 external link, at the leaf and at an inner part",
        (
            "data/test_guard.py::test_external_links_at_any_component",
            "data/test_bad_input.py::test_external_link",
            "data/test_ismrmrd.py::test_links_out_of_the_file",
            "faults/test_kernel.py::test_nothing_elsewhere_is_opened",
        ),
    ),
    2: (
        "soft link to an external link, cycle of links",
        (
            "data/test_guard.py::test_external_links_at_any_component",
            "data/test_guard.py::test_soft_link_cycle",
            "faults/test_kernel.py::test_every_hostile_scan_is_refused_and_the_sound_one_read",
        ),
    ),
    3: (
        "external raw storage",
        (
            "data/test_guard.py::test_external_raw_storage",
            "faults/test_kernel.py::test_nothing_elsewhere_is_opened",
        ),
    ),
    4: (
        "virtual data set of another file",
        (
            "data/test_guard.py::test_virtual_data_set",
            "data/test_nxtomo.py::test_frames_in_another_file_are_refused",
            "faults/test_kernel.py::test_nothing_elsewhere_is_opened",
        ),
    ),
    5: (
        "kilobytes that declare petabytes, many data sets below the limit",
        (
            "data/test_guard.py::test_four_pebibytes_in_a_kilobyte",
            "data/test_guard.py::test_many_data_sets_each_below_the_limit",
            "data/test_damage.py::test_millions_of_chunks_without_data_are_refused",
            "faults/test_sizes.py::test_what_a_file_declares_takes_no_memory",
        ),
    ),
    6: (
        "bombs of gzip and other filters, .nii.gz, members of a zip",
        (
            "data/test_filters.py::test_a_chunk_that_states_more_than_it_may",
            "data/test_filters.py::test_many_small_files_worth_of_zeros_are_refused",
            "data/test_bad_input.py::test_npz_bomb",
            "data/test_matlab.py::test_bomb",
            "data/test_matlab.py::test_bomb_in_a_structure",
            "data/test_reference.py::test_a_gz_bomb_stops_at_the_declared_size",
            "data/test_reference.py::test_a_small_file_that_declares_much",
            "faults/test_sizes.py::test_nii_gz_is_no_scan_and_is_not_unpacked",
            "faults/test_sizes.py::test_training_images_that_unpack_to_much",
        ),
    ),
    7: (
        "unknown filter, plug-ins of the environment",
        (
            "data/test_guard.py::test_unknown_filter_is_one_sentence",
            "data/test_guard.py::test_plugin_path_of_the_environment_is_ignored",
            "data/test_filters.py::test_a_filter_that_is_not_installed",
            "data/test_filters.py::test_no_plugin_of_the_environment_is_opened",
            "data/test_isolation.py::test_what_the_process_has",
        ),
    ),
    8: (
        "a file that makes a library die, hang or take all memory",
        (
            "faults/test_damage.py::test_death_in_libhdf5_is_one_line",
            "faults/test_damage.py::test_libhdf5_that_never_returns",
            "faults/test_damage.py::test_it_ends_with_an_asker_that_is_killed",
            "data/test_isolation.py::test_death_is_one_line",
            "data/test_isolation.py::test_memory_limit",
            "data/test_isolation.py::test_time_limit",
            "data/test_isolation.py::test_the_reader_ends_with_whoever_asked",
            "data/test_damage.py::test_free_space_of_no_size_in_a_heap_is_refused",
            "cli/test_bad_input.py::test_a_reader_that_dies_is_one_line",
            "fuzz/test_fuzz.py::test_mutants",
            "fuzz/test_quiet.py::test_mutants_open_nothing_but_themselves",
        ),
    ),
    9: (
        "objects and pickles instead of numbers",
        (
            "data/test_guard.py::test_types_that_are_not_numbers",
            "data/test_bad_input.py::test_pickled_arrays",
            "faults/test_sizes.py::test_pickles_in_attributes_and_arrays_are_left_alone",
            "data/test_isolation_wire.py::test_arrays_are_checked_before_they_are_made",
            "faults/test_forbidden_calls.py::test_nothing_turns_data_into_code",
        ),
    ),
    10: (
        "XML with a DOCTYPE or entities, a huge header",
        (
            "data/test_load.py::test_fastmri_bad_header",
            "data/test_load.py::test_fastmri_header_of_nine_megabytes",
            "data/test_ismrmrd.py::test_bad_headers",
            "faults/test_damage.py::test_a_doctype_is_refused_before_it_is_parsed",
            "faults/test_kernel.py::test_no_socket_is_made",
        ),
    ),
    11: (
        "unknown, missing and broken tags",
        (
            "data/test_load.py::test_fastmri_unknown_vendor_tags_are_read_over",
            "data/test_ismrmrd.py::test_no_directions",
            "data/test_ismrmrd.py::test_bad_headers",
            "fuzz/test_headers.py::test_ismrmrd_header",
        ),
    ),
    12: (
        "trajectories in a wrong unit or outside the grid",
        (
            "data/test_noncartesian_files.py::"
            "test_trajectory_outside_the_grid_names_the_suspected_unit",
            "data/test_noncartesian_files.py::test_wrong_trajectories",
            "data/test_noncartesian_files.py::test_real_spiral_in_a_wrong_unit",
            "data/test_ismrmrd.py::test_radial",
        ),
    ),
    13: (
        "truncated files",
        (
            "faults/test_damage.py::test_truncated_files_name_the_bytes",
            "data/test_guard.py::test_truncated_file",
            "data/test_bad_input.py::test_truncated_arrays",
            "data/test_twix.py::test_truncated_damaged_and_empty",
            "data/test_reference.py::test_truncated_and_compressed_pixels",
            "cli/test_bad_input.py::test_truncated_hdf5",
        ),
    ),
    14: (
        "values that cannot be: NaN, zeros, a constant sinogram, dark above flat",
        (
            "data/test_bad_input.py::test_not_finite_kspace",
            "data/test_bad_input.py::test_zero_kspace",
            "data/test_bad_input.py::test_nan_projection",
            "data/test_bad_input.py::test_wrong_dxchange",
            "data/test_bad_input.py::test_wrong_sinograms",
            "data/test_fan_files.py::test_constant_sinogram",
            "solvers/test_numerics.py::"
            "test_a_measurement_that_is_not_finite_is_refused_before_the_first_call",
        ),
    ),
    15: (
        "angles without a unit, both ends of a turn",
        (
            "data/test_load.py::test_angle_units",
            "data/test_bad_input.py::test_angle_unit",
            "data/test_nxtomo.py::test_angles_without_a_unit",
            "data/test_nxtomo.py::test_a_full_turn_with_both_ends_is_noted",
        ),
    ),
    16: (
        "a cfl header of impossible dimensions",
        (
            "data/test_bart.py::test_damage_is_refused",
            "fuzz/test_headers.py::test_cfl_header",
            "faults/test_sizes.py::test_what_a_file_declares_takes_no_memory",
        ),
    ),
    17: (
        "weights whose file lies",
        (
            "priors/test_store.py::test_doubled_tensor_name",
            "priors/test_store.py::test_huge_header_is_refused_before_it_is_read",
            "priors/test_store.py::test_weights_that_are_not_finite",
            "faults/test_priors.py::test_holes_and_offsets",
            "faults/test_priors.py::test_many_entries",
            "faults/test_priors.py::test_a_pinned_hash",
            "faults/test_priors.py::test_a_shipped_file_that_changed_is_refused",
        ),
    ),
    18: (
        "pickles offered as weights",
        (
            "priors/test_store.py::test_pickles_are_never_opened",
            "faults/test_priors.py::test_pickles_by_any_name",
            "faults/test_priors.py::test_the_refusal_of_a_checkpoint_says_how_to_convert_it",
        ),
    ),
    19: (
        "archives and directories that lead outside",
        (
            "faults/test_archives.py::test_zip_members_are_read_in_place_or_refused",
            "faults/test_archives.py::test_tar_is_no_scan",
            "faults/test_archives.py::test_a_dicomdir_leads_nowhere",
            "data/test_reference.py::test_links_in_a_folder_are_not_followed",
            "data/test_damage.py::test_a_sidecar_names_no_file_outside_its_folder",
        ),
    ),
    20: (
        "side-cars and configurations that are large, deep, doubled or misspelt",
        (
            "data/test_sidecar.py::test_size_cap",
            "data/test_sidecar.py::test_deep_nesting",
            "data/test_sidecar.py::test_mistakes",
            "data/test_sidecar.py::test_the_line_is_named",
            "data/test_sidecar.py::test_hostile_texts_take_no_time",
            "training/test_config.py::test_hostile_files_are_one_line",
            "fuzz/test_headers.py::test_sidecar",
        ),
    ),
    21: (
        "names that are commands",
        (
            "faults/test_names.py::test_texts_of_a_file_are_shown_and_not_obeyed",
            "faults/test_names.py::test_names_of_files",
            "report/test_page.py::test_hostile_texts_are_escaped",
            "report/test_figures.py::test_texts_cannot_break_a_figure",
            "cli/test_bad_input.py::test_name_with_escape_sequence_is_escaped",
        ),
    ),
    22: (
        "names, dates and numbers of people and machines",
        (
            "privacy/test_privacy.py::test_info_and_convert",
            "privacy/test_privacy.py::test_reconstruct_and_evaluate",
            "privacy/test_privacy.py::test_an_error_names_the_file_only",
            "data/test_ismrmrd.py::test_nothing_identifying_is_kept",
            "data/test_twix.py::test_no_name_is_kept",
            "data/test_nxtomo.py::test_nothing_identifying_is_kept",
            "report/test_dicom.py::test_series_is_derived_and_names_nobody",
        ),
    ),
    23: (
        "full disc, read-only folder, existing output, two runs",
        (
            "faults/test_disc.py::test_conversion",
            "test_result.py::test_full_disc_is_one_clear_error_and_keeps_the_old_result",
            "test_result.py::test_unwritable_place_is_a_data_error",
            "cli/test_bad_input.py::test_disc_full_while_saving",
            "cli/test_bad_input.py::test_output_without_permission",
            "cli/test_bad_input.py::test_existing_result",
            "cli/test_outputs.py::test_second_run_into_one_folder_names_folder_and_process",
            "cli/test_outputs.py::test_a_lock_ends_with_its_process_however_that_ends",
        ),
    ),
    24: (
        "kill -9, SIGTERM, Ctrl-C at any step",
        (
            "cli/test_resume.py::test_killed_in_three_ways_and_resumed_it_is_the_uninterrupted_run",
            "cli/test_resume.py::test_disc_full_while_keeping_parts",
            "cli/test_resume.py::test_damaged_and_foreign_parts_are_refused",
            "training/test_resume.py::test_resumed_after_kill_9_equals_uninterrupted",
        ),
    ),
    25: (
        "memory that ends, numbers that are none, engines that do not work",
        (
            "faults/test_compute.py::test_fewer_images_at_a_time_give_the_same_samples",
            "faults/test_compute.py::test_the_report_says_it",
            "faults/test_compute.py::test_the_step_where_a_prior_fails_is_named",
            "faults/test_compute.py::test_the_fallback_is_in_the_record_of_a_run",
            "faults/test_compute.py::test_cupy_that_does_not_work",
            "solvers/test_numerics.py::test_a_prior_that_breaks_is_named_with_step_quantity_and_hint",
        ),
    ),
}


@cache
def names_in(file: str) -> frozenset[str]:
    """Names of the test functions of a file."""
    nodes = ast.walk(ast.parse((TESTS / file).read_text(encoding="utf-8")))
    return frozenset(n.name for n in nodes if isinstance(n, ast.FunctionDef))


def test_all_rows_are_there() -> None:
    assert list(ROWS) == list(range(1, 26))


@pytest.mark.parametrize("number", ROWS, ids=lambda n: f"row {n}: {ROWS[n][0]}")
def test_the_tests_of_a_row_exist(number: int) -> None:
    missing = [
        name for name in ROWS[number][1] if name.split("::")[1] not in names_in(name.split("::")[0])
    ]
    assert ROWS[number][1] and not missing, f"renamed or removed: {missing}"

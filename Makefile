# Everything happens in .venv; `make demo` and `make test` make it when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CMAKE ?= $(or $(shell command -v cmake),$(BIN)/cmake)
NATIVE_SOURCES := $(wildcard plugins/include/hyperline/*.h plugins/*/CMakeLists.txt plugins/*/*.h plugins/*/*.cpp)

CPP := $(wildcard plugins/include/hyperline/*.h $(foreach end,h cpp cu cuh,plugins/*/*.$(end) tests/*/*.$(end)))

.PHONY: install gige demo docs doc-commands sbom test pytest test-lowest test-lowest-train lint flight format native-asan native-aarch64 native-cuda wheels wheels-again prove-arm64 prove-debian stopwatch results accuracy accuracy-slice clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(NATIVE_SOURCES)
	$(PYTHON) -c 'import sys; sys.exit("hyperline needs Python 3.10 or newer") if sys.version_info < (3, 10) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	tools/fetch_onnxruntime_headers
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# What the tests with a camera need beside Aravis itself; docs/gige.md names the packages that it is built with.
gige: $(VENV)/.gige

$(VENV)/.gige: | $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt PyGObject
	touch $@

demo: $(STAMP)
	$(BIN)/hyperline demo --out demo

# TensorRT's types: their package depends on TensorRT itself, which no registry holds.
TYPING := build/typing/.fetched

$(TYPING): | $(STAMP)
	rm -rf build/typing
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target build/typing tensorrt-stubs==10.13.0.35.1
	sed -i -E 's/([(,] *)in: /\1in_: /; s/, channel_axis: int\)/, *, channel_axis: int)/' \
		build/typing/tensorrt_bindings/tensorrt.pyi # a keyword as a name, and a parameter out of order
	touch $@

lint: $(STAMP) $(TYPING)
	$(BIN)/python tools/link_tree.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck packaging/install.sh

# TensorRT-RTX parses and builds without a GPU; a wheel of it exists for x86 and Python 3.10 to 3.14.
TENSORRT_RTX := build/tensorrt-rtx/.fetched

$(TENSORRT_RTX): | $(STAMP)
	rm -rf build/tensorrt-rtx
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target build/tensorrt-rtx \
		tensorrt-rtx-cu13-libs==1.7.1.116 tensorrt-rtx-cu13-bindings==1.7.1.116
	touch $@

test: lint pytest

# What watches the clock runs after the others, with nothing beside it.
pytest: $(STAMP)
	$(BIN)/pytest -n auto -m "not alone"
	$(BIN)/pytest -m alone

# The documentation site, into build/site; every warning is an error, and nothing is loaded from a network.
docs: $(STAMP)
	$(BIN)/python tools/link_tree.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean

# The commands of tutorial and how-tos, with few epochs; minutes.
doc-commands: $(STAMP)
	$(BIN)/python tools/doc_blocks.py --run --quick

# CycloneDX bill of materials of what is installed in .venv, into build/sbom.cdx.json.
sbom: $(STAMP)
	mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON --output-file build/sbom.cdx.json $(BIN)/python

# What flies, against the lowest versions that pyproject.toml allows, in an environment of its own.
test-lowest:
	$(PYTHON) tools/lowest.py

# The same of what trains and exports.
test-lowest-train:
	$(PYTHON) tools/lowest.py --train

# An install without extras, as on board, in an environment of its own.
flight: $(STAMP)
	$(BIN)/python tools/flight_check.py

# The wheels that fly, for x86-64 and 64-bit ARM, into dist; and the proof that they are the same bits wherever they are built.
WHEELS := dist/.built

wheels: $(WHEELS)

$(WHEELS): $(shell git ls-files hyperline train export runtime plugins calibration) pyproject.toml CMakeLists.txt README.md LICENSE \
		tools/wheels.py tools/aarch64.cmake | $(STAMP)
	$(BIN)/python tools/wheels.py
	touch $@

wheels-again: $(WHEELS)
	$(BIN)/python tools/wheels.py --again

# The wheel on an emulated 64-bit ARM, beside this machine (needs root; what else, it says), into docs/results/arm64.txt.
prove-arm64: $(STAMP)
	$(BIN)/python tools/results.py --only arm64

# The wheel on minimal Debian 12 and 13, and from the sources demo and tests there, into docs/results/debian*.txt.
prove-debian: $(STAMP)
	$(BIN)/python tools/results.py --only debian debian12-sources debian13-sources

# A newcomer's first hour on a minimal Debian, as docs/new-sensor.md has it, into docs/results/stopwatch.txt; needs root and
# HYPERLINE_SCENES, a folder that has HySU in hysu.
stopwatch: $(STAMP)
	$(BIN)/python tools/results.py --only stopwatch

# docs/results: what this machine can measure in an hour, and with LONG=1 what takes hours.
results: $(STAMP)
	$(BIN)/python tools/results.py $(if $(LONG),--long)

# docs/accuracy.md: hours; it goes on where it was interrupted, and takes from docs/accuracy.json what that has of this
# code. A scene that is missing beside the checkout, in
# ../shared/data, is skipped, which the page says.
accuracy: $(STAMP)
	$(BIN)/hyperline benchmark bench/protocols/indian-pines.toml bench/protocols/halves.toml bench/protocols/sites.toml \
		--out build/accuracy --page docs/accuracy.md

# The same path in minutes: a seed, few models, few epochs; interrupted, and gone on with.
accuracy-slice: $(STAMP)
	$(BIN)/python tools/accuracy_slice.py

# The CPU kernels under the address and undefined-behaviour sanitizers.
native-asan:
	$(CMAKE) -S . -B build/asan -DHYPERLINE_SANITIZE=ON -DHYPERLINE_TESTS=ON -DHYPERLINE_ORT=OFF
	$(CMAKE) --build build/asan --parallel --target hyperline_kernels_test --target hyperline_quantized_test
	build/asan/plugins/cpu/hyperline_kernels_test
	build/asan/plugins/cpu/hyperline_quantized_test

# The same tests for 64-bit ARM, under emulation.
native-aarch64:
	$(CMAKE) -S . -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=tools/aarch64.cmake -DHYPERLINE_TESTS=ON -DHYPERLINE_ORT=OFF
	$(CMAKE) --build build/aarch64 --parallel --target hyperline_kernels_test --target hyperline_quantized_test
	qemu-aarch64-static -L /usr/aarch64-linux-gnu build/aarch64/plugins/cpu/hyperline_kernels_test
	qemu-aarch64-static -L /usr/aarch64-linux-gnu build/aarch64/plugins/cpu/hyperline_quantized_test

# The CUDA kernels and the TensorRT plugin for every GPU that nvcc knows (a minute), and their registers as a table.
# TensorRT's headers, and its lean runtime whose plugin registry the tests use, come as wheels.
TENSORRT_TESTS := build/tensorrt/.fetched
CUDA_REPORT := build/cuda-registers.txt

native-cuda: $(CUDA_REPORT) $(TENSORRT_RTX)

$(TENSORRT_TESTS): | $(STAMP)
	rm -rf build/tensorrt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target build/tensorrt kernel-lens==2.0.1 \
		tensorrt-lean-cu13-libs==10.16.1.11 tensorrt-lean-cu13-bindings==10.16.1.11
	touch $@

$(CUDA_REPORT): CMakeLists.txt tools/cuda_report.py $(TENSORRT_TESTS) plugins/include/hyperline/cuda_ops.h \
		$(wildcard plugins/cuda/* plugins/tensorrt/* plugins/ort/*) | $(STAMP)
	@command -v nvcc >/dev/null || { echo "make native-cuda needs nvcc, of the CUDA toolkit" >&2; exit 1; }
	$(CMAKE) -S . -B build/cuda -DHYPERLINE_CUDA=ON -DHYPERLINE_TENSORRT=ON -DHYPERLINE_ORT=ON
	$(CMAKE) --build build/cuda --clean-first --target hyperline_cuda --target hyperline_trt --target hyperline_ort > build/cuda.log 2>&1 \
		|| { cat build/cuda.log; exit 1; }
	$(BIN)/python tools/cuda_report.py build/cuda.log $@

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

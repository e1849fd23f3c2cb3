# `make tag` and `make test` do all the set-up on a machine that has Python and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MUSIC ?= samples

.PHONY: tag test coverage lint type bench bench-scale bench-train bench-learning bench-gpu campaigns starter constraints clean

# An environment that is made once and again when the dependencies change, of the versions that the tests ran with:
# at first what tagging needs, and on top of it, for all but `make tag`, all that there is.
# Where there is an NVIDIA card, torch is worth its size.
CORE_EXTRAS := $(if $(shell command -v nvidia-smi),[torch])
PIP_INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip
	$(PIP_INSTALL) --editable .$(CORE_EXTRAS)
	touch $@
$(VENV)/installed: $(VENV)/core
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@

# The newest versions that pyproject.toml allows, kept if the tests pass with them.
constraints: $(VENV)/installed
	$(BIN)/python -m tests.campaigns.constraints

# Shows the genre of each song, writes nothing. `make tag MUSIC=~/Music` classifies your own songs,
# `make tag MUSIC=~/Music OPTIONS=--write-tags` writes their genres.
tag: $(VENV)/core samples
	@$(BIN)/genre-tag $(OPTIONS) "$(patsubst ~%,$(HOME)%,$(MUSIC))"

# A copy of the bundled clips, to try everything on.
samples:
	@cp -r tagger/samples samples

# A file of tests on each core, with one thread: several threads on a busy core wait for each other.
test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

# The same, and which lines no test reaches. Nothing asks for a share: it is slower, and one test is skipped while lines
# are traced.
coverage: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --cov --cov-report=term

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/installed
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.tagging $(OPTIONS)

# What a library of 100 000 songs costs beside decoding and classifying, in an hour. OPTIONS=20000 takes ten minutes.
bench-scale: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.scale $(OPTIONS)

bench-train: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.training $(OPTIONS)

# What `genre-tag learn` brings, on labelled recordings: OPTIONS='STARTER/recordings --model STARTER/whole'.
bench-learning: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.learning $(OPTIONS)

# What takes longer than a test may, to show that writing is safe. OPTIONS=--help says what can be chosen.
campaigns: campaign-matrix campaign-fuzz campaign-kill campaign-mutants campaign-cost campaign-cluster

# For a machine with a GPU that is had for minutes: docs/speed.md says what else it may need.
bench-gpu: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.gpu $(OPTIONS)

campaign-%: $(VENV)/installed
	$(BIN)/python -m tests.campaigns.$* $(OPTIONS)

# The embedded checkpoint, made again from nothing: a night on two cores. Needs Debian's apt-get, git, openmpt123, mma
# and fluidsynth, and in TEACHERS the weights of four public taggers: training/starter/README.md says which, and why
# the recordings are labelled and prepared before all the songs are.
STARTER ?= starter
TEACHERS ?= teachers
SYNTHESISED ?= 40
MIXES ?= 4400
EPOCHS ?= 5
SUNG ?= 1200
SHARDS ?= 300
STEPS ?= 7000
LABEL = $(BIN)/python -m training.starter.labels --teachers $(TEACHERS) --out $(STARTER)/labels
PREPARE = $(BIN)/genre-tag prepare $(STARTER)/labels/songs.csv --out $(STARTER)/dataset --force \
	--snippet-seconds 5 --snippets 12 --drop-small
# Most is learned from a quarter of each snippet's columns, two and a half times as fast; the last pass is of all.
LEARN = $(BIN)/genre-tag train --data $(STARTER)/dataset --soft-labels $(STARTER)/labels/soft_labels.parquet \
	--soft-weight 1 --recipe v2 --optimizer muon --batch-size 32 --frequency-patchout 0 --mixup 0.25 \
	--label-smoothing 0 --effect-p 0.3 --noise 0 --equalizer 4
starter: $(VENV)/installed
	$(PIP_INSTALL) --editable '.[starter]'
	$(BIN)/python -m training.starter.corpus $(STARTER)/recordings $(OPTIONS)
	$(LABEL) $(STARTER)/recordings/songs.csv
	$(PREPARE)
	$(BIN)/python -m training.starter.mixes $(STARTER)/dataset $(STARTER)/recordings/songs.csv \
		--out $(STARTER)/mixes --number $(MIXES)
	$(BIN)/python -m training.starter.tones $(STARTER)/tones
	$(BIN)/python -m training.starter.synthesize $(STARTER)/synthesised --per-genre $(SYNTHESISED) \
		$(foreach genre,Blues Country Electronic Folk Hip-Hop Jazz Latin Metal Pop Reggae Rock Soul,--genre $(genre))
	$(LABEL) $(foreach folder,recordings tones synthesised mixes,$(STARTER)/$(folder)/songs.csv)
	$(PREPARE)
	$(LEARN) --model new-mini --lr 0.001 --epochs $(EPOCHS) --warmup-epochs 0.2 --patchout 0.75 --out $(STARTER)/run
	$(LEARN) --model $(STARTER)/run --lr 0.0003 --epochs 1 --warmup-epochs 0.2 --patchout 0 --ema 0.99 \
		--out $(STARTER)/whole
	$(BIN)/python -m training.matching.singing $(STARTER)/dataset $(STARTER)/recordings/songs.csv \
		--out $(STARTER)/sung --number $(SUNG)
	$(BIN)/python -m training.matching.pool $(STARTER)/dataset \
		$(foreach folder,recordings synthesised,$(STARTER)/$(folder)/songs.csv) --sung $(STARTER)/sung \
		--teachers $(TEACHERS) --out $(STARTER)/pool --shards $(SHARDS)
	$(BIN)/python -m training.matching.learn $(STARTER)/pool --model $(STARTER)/whole --steps $(STEPS) \
		--out $(STARTER)/matched
	$(BIN)/python -m training.starter.release $(STARTER)/matched/checkpoint $(STARTER)/recordings/songs.csv \
		--out $(STARTER)/model

clean:
	rm -rf $(VENV) .venv-fresh samples build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

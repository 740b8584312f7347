# Each target does its own set-up (.ci/setup) and is otherwise commands that one can type.
.POSIX:
.PHONY: help demo demo-kafka test lint bench bench-languages bench-peers engines

help:
	@echo 'make demo         build, then generate, judge and show 100,000 records in ./sluice-demo'
	@echo 'make demo-kafka   the same from a real Kafka, in ./sluice-demo-kafka'
	@echo 'make test         every test, on a real Kafka too'
	@echo 'make bench        how fast it is, as ratios: to native code, other decoders, itself without rules, the bare work'
	@echo 'make bench-languages  of that only: a rule in every language, and what each of them costs'
	@echo 'make bench-peers  the same data through DuckDB and through a plain Python consumer'
	@echo 'make engines      what judges scripts: Python for this user, and JavaScript for the next build, if its sources changed'
	@echo 'make lint         format, clippy and docs, as CI checks them'

demo:
	@.ci/setup build
	@. .ci/env && cargo build && "$$CARGO_TARGET_DIR/debug/sluice" demo && echo && echo "  (sluice is $$CARGO_TARGET_DIR/debug/sluice)"

demo-kafka:
	@.ci/setup
	@. .ci/env && cargo build && PATH="$$CARGO_TARGET_DIR/debug:$$PATH" tests/demo-kafka.sh sluice-demo-kafka

test:
	@.ci/setup
	@. .ci/env && cargo test --workspace

# JavaScript's engine is in the repository; the binary embeds it.
engines:
	@.ci/setup
	@. .ci/env && cargo build && "$$CARGO_TARGET_DIR/debug/sluice" build --engine python && \
		"$$CARGO_TARGET_DIR/debug/sluice" build --engine javascript -o plugins/engine-js/engine.core.wasm

lint:
	@.ci/setup build
	@. .ci/env && cargo fmt --all --check
	@. .ci/env && cargo clippy --workspace --all-targets -- -D warnings
	@. .ci/env && RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --workspace --no-deps --document-private-items

# The profile of `make demo` and `make test`, with our own crates optimised fully and unchecked like dependencies: these are
# compiled already, by the same settings, and are not compiled again.
BENCH = cargo bench --profile dev --config 'profile.dev.opt-level=3' --config 'profile.dev.debug-assertions=false' \
	--config 'profile.dev.overflow-checks=false' --config 'profile.dev.package.sluice-host.codegen-units=16'

bench:
	@.ci/setup
	@. .ci/env && $(BENCH)

bench-languages:
	@.ci/setup
	@. .ci/env && $(BENCH) --bench ratios -- languages

bench-peers:
	@.ci/setup
	@. .ci/env && $(BENCH) --bench ratios -- peers

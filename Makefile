# Each target does its own set-up (.ci/setup) and is otherwise commands that one can type.
.POSIX:
.PHONY: help demo demo-kafka test lint

help:
	@echo 'make demo         build, then generate, judge and show 100,000 records in ./sluice-demo'
	@echo 'make demo-kafka   the same from a real Kafka, in ./sluice-demo-kafka'
	@echo 'make test         every test, on a real Kafka too'
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

lint:
	@.ci/setup build
	@. .ci/env && cargo fmt --all --check
	@. .ci/env && cargo clippy --workspace --all-targets -- -D warnings
	@. .ci/env && RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --workspace --no-deps --document-private-items

module texts

go 1.24

require sluice v0.0.0

replace sluice => ../../../../plugins/sdk-go/

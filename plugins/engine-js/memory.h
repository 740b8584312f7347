/* Memory of a call: what the host passes and what it reads. All of it is free when the host has read its answer. */

static struct block {
    struct block *before;
    uint32_t size, used;
    _Alignas(16) uint8_t bytes[];
} *blocks;

static void *sl_take(uint32_t size, SL_UNUSED uint32_t align) {
    size = (size + 15) & ~15u;
    if (!blocks || blocks->size - blocks->used < size) {
        uint32_t wanted = blocks ? 2 * blocks->size : 64 << 10;
        if (wanted < size) wanted = size;
        struct block *block = malloc(sizeof *block + wanted);
        if (!block) sl_die();
        *block = (struct block){blocks, wanted, 0};
        blocks = block;
    }
    void *at = blocks->bytes + blocks->used;
    blocks->used += size;
    return at;
}

/* The last block is the largest: it stays, and calls of one size soon need no other. */
static void sl_release(void) {
    if (!blocks) return;
    for (struct block *block = blocks->before, *before; block; block = before) {
        before = block->before;
        free(block);
    }
    blocks->before = NULL, blocks->used = 0;
}

SL_EXPORT("cabi_realloc") void *sl_realloc(void *old, uint32_t had, uint32_t align, uint32_t size) {
    void *block = sl_take(size, align);
    if (had) memcpy(block, old, had < size ? had : size);
    return block;
}

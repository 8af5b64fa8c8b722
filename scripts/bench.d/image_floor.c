/* The floor of taking an image in: what reading, hashing, decompressing and writing take, with nothing fetched, kept or recorded.
 *
 *   image_floor TARGET BLOB...
 *
 * Each BLOB, a tar in gzip, is unpacked into the folder TARGET/N. As podkeep does it: three layers at a time, two threads for each,
 * one that reads, hashes (SHA-256) and decompresses, and one that hashes what comes out and writes it. Hashing is OpenSSL's and
 * decompression ISA-L's, which was the fastest to be had for each. Of the archive no more is understood than it takes to make its files,
 * folders and links with their modes: no owners, times, devices and attributes, and whatever is there already is left. Syncs nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AT_ONCE = 3, CHUNK = 1 << 17, BUFFER = 1 << 18, BUFFERS = 4, BLOCK = 512 };

static void fail(const char *what)
{
	fprintf(stderr, "image_floor: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
	exit(1);
}

static EVP_MD_CTX *new_hash(void)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	if (!hash || !EVP_DigestInit_ex(hash, EVP_sha256(), NULL))
		fail("sha256");
	return hash;
}

static void end_hash(EVP_MD_CTX *hash)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	EVP_DigestFinal_ex(hash, digest, NULL);
	EVP_MD_CTX_free(hash);
}

/* ---- buffers that go round between a layer's two threads */

struct ring {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned char bytes[BUFFERS][BUFFER];
	/* Of the filled ones; a length of 0 is the end. */
	size_t lengths[BUFFERS];
	unsigned long filled, used;
	const char *blob;
};

/* The buffer to fill next, when it is free. */
static unsigned char *to_fill(struct ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	while (ring->filled - ring->used == BUFFERS)
		pthread_cond_wait(&ring->changed, &ring->lock);
	pthread_mutex_unlock(&ring->lock);
	return ring->bytes[ring->filled % BUFFERS];
}

static void step(struct ring *ring, unsigned long *counter)
{
	pthread_mutex_lock(&ring->lock);
	++*counter;
	pthread_cond_signal(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
}

static void give(struct ring *ring, size_t length)
{
	ring->lengths[ring->filled % BUFFERS] = length;
	step(ring, &ring->filled);
}

static void await_filled(struct ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	while (ring->filled == ring->used)
		pthread_cond_wait(&ring->changed, &ring->lock);
	pthread_mutex_unlock(&ring->lock);
}

/* ---- the thread that reads */

static size_t read_chunk(int file, unsigned char *chunk, EVP_MD_CTX *hash)
{
	ssize_t got = read(file, chunk, CHUNK);
	if (got < 0)
		fail("read a blob");
	EVP_DigestUpdate(hash, chunk, (size_t)got);
	return (size_t)got;
}

static void *decompress(void *argument)
{
	struct ring *ring = argument;
	struct inflate_state *state = malloc(sizeof *state);
	unsigned char *chunk = malloc(CHUNK);
	EVP_MD_CTX *hash = new_hash();
	int file = open(ring->blob, O_RDONLY | O_CLOEXEC);
	if (!state || !chunk || file < 0)
		fail(ring->blob);
	isal_inflate_init(state);
	state->crc_flag = ISAL_GZIP;
	size_t length;
	do {
		state->next_out = to_fill(ring);
		state->avail_out = BUFFER;
		while (state->avail_out > 0 && state->block_state != ISAL_BLOCK_FINISH) {
			if (state->avail_in == 0) {
				state->next_in = chunk;
				state->avail_in = (uint32_t)read_chunk(file, chunk, hash);
				if (state->avail_in == 0)
					fail("a blob ends early");
			}
			if (isal_inflate(state) != ISAL_DECOMP_OK)
				fail("a blob is not a good gzip");
		}
		length = BUFFER - state->avail_out;
		give(ring, length);
	} while (length > 0);
	while (read_chunk(file, chunk, hash) > 0)
		;
	close(file);
	end_hash(hash);
	free(chunk);
	free(state);
	return NULL;
}

/* ---- the thread that writes */

/* The tar as it comes. */
struct plain {
	struct ring *ring;
	size_t position;
	EVP_MD_CTX *hash;
};

/* Some of the next `wanted` bytes where they lie; NULL at the end. */
static const unsigned char *peek(struct plain *plain, size_t wanted, size_t *length)
{
	struct ring *ring = plain->ring;
	await_filled(ring);
	size_t at = ring->used % BUFFERS, rest = ring->lengths[at] - plain->position;
	if (ring->lengths[at] == 0)
		return NULL;
	if (plain->position == 0)
		EVP_DigestUpdate(plain->hash, ring->bytes[at], ring->lengths[at]);
	*length = wanted < rest ? wanted : rest;
	return ring->bytes[at] + plain->position;
}

static void advance(struct plain *plain, size_t length)
{
	struct ring *ring = plain->ring;
	plain->position += length;
	if (plain->position == ring->lengths[ring->used % BUFFERS]) {
		plain->position = 0;
		step(ring, &ring->used);
	}
}

/* Passes `size` bytes and their padding on to a file, to memory, or (-1, NULL) to nobody. */
static void content(struct plain *plain, uint64_t size, int file, char *memory)
{
	uint64_t whole = (size + BLOCK - 1) / BLOCK * BLOCK, done = 0;
	while (done < whole) {
		size_t length, part;
		const unsigned char *bytes = peek(plain, whole - done, &length);
		if (!bytes)
			fail("a tar ends early");
		part = done >= size ? 0 : size - done < length ? size - done : length;
		if (part > 0 && file >= 0 && write(file, bytes, part) != (ssize_t)part)
			fail("write a file");
		if (part > 0 && memory)
			memcpy(memory + done, bytes, part);
		advance(plain, length);
		done += length;
	}
}

struct entry {
	char type, path[4097], link[4097];
	unsigned mode;
	uint64_t size;
};

/* `LENGTH path=VALUE` and `linkpath` of an extended header. */
static void read_records(char *text, uint64_t size, struct entry *entry)
{
	char *end = text + size, *rest;
	while (text < end) {
		unsigned long length = strtoul(text, &rest, 10);
		if (length == 0 || length > (unsigned long)(end - text))
			fail("an extended header is wrong");
		text[length - 1] = 0;
		if (strncmp(rest, " path=", 6) == 0)
			snprintf(entry->path, sizeof entry->path, "%s", rest + 6);
		if (strncmp(rest, " linkpath=", 10) == 0)
			snprintf(entry->link, sizeof entry->link, "%s", rest + 10);
		text += length;
	}
}

static int read_entry(struct plain *plain, struct entry *entry)
{
	char block[BLOCK], *extended;
	memset(entry, 0, sizeof *entry);
	for (;;) {
		content(plain, BLOCK, -1, block);
		if (block[0] == 0)
			return 0;
		entry->type = block[156];
		entry->mode = (unsigned)strtoul(block + 100, NULL, 8);
		entry->size = strtoull(block + 124, NULL, 8);
		if (entry->type != 'x' && entry->type != 'g')
			break;
		extended = malloc(entry->size + BLOCK);
		content(plain, entry->size, -1, extended);
		if (entry->type == 'x')
			read_records(extended, entry->size, entry);
		free(extended);
	}
	if (!entry->path[0])
		snprintf(entry->path, sizeof entry->path, "%.155s%s%.100s", block + 345, block[345] ? "/" : "", block);
	if (!entry->link[0])
		snprintf(entry->link, sizeof entry->link, "%.100s", block + 157);
	return 1;
}

static void make(struct plain *plain, int root, struct entry *entry)
{
	int file, failed = 0;
	switch (entry->type) {
	case '0':
		file = openat(root, entry->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, entry->mode);
		if (file < 0)
			fail(entry->path);
		content(plain, entry->size, file, NULL);
		close(file);
		return;
	case '5':
		failed = mkdirat(root, entry->path, entry->mode);
		break;
	case '2':
		failed = symlinkat(entry->link, root, entry->path);
		break;
	case '1':
		failed = linkat(root, entry->link, root, entry->path, 0);
		break;
	default:
		content(plain, entry->size, -1, NULL);
	}
	if (failed && errno != EEXIST)
		fail(entry->path);
}

static void unpack(const char *target, int number, const char *blob)
{
	char path[4096];
	struct entry *entry = malloc(sizeof *entry);
	struct ring *ring = calloc(1, sizeof *ring);
	struct plain plain = {.ring = ring, .hash = new_hash()};
	pthread_t reader;
	snprintf(path, sizeof path, "%s/%d", target, number);
	if (!entry || !ring || mkdir(path, 0755) < 0)
		fail(path);
	int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	pthread_mutex_init(&ring->lock, NULL);
	pthread_cond_init(&ring->changed, NULL);
	ring->blob = blob;
	if (pthread_create(&reader, NULL, decompress, ring) != 0)
		fail("start a thread");
	while (read_entry(&plain, entry))
		make(&plain, root, entry);
	size_t length;
	while (peek(&plain, BUFFER, &length))
		advance(&plain, length);
	pthread_join(reader, NULL);
	end_hash(plain.hash);
	close(root);
	free(ring);
	free(entry);
}

/* ---- layers */

static char **blobs;
static const char *target;
static atomic_int next;

static void *unpack_next_ones(void *count)
{
	int number;
	while ((number = atomic_fetch_add(&next, 1)) < *(int *)count)
		unpack(target, number, blobs[number]);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[AT_ONCE];
	int count = argc - 2;
	if (count < 1) {
		fputs("usage: image_floor TARGET BLOB...\n", stderr);
		return 2;
	}
	umask(0);
	target = argv[1];
	blobs = argv + 2;
	if (mkdir(target, 0755) < 0)
		fail(target);
	for (int i = 0; i < AT_ONCE; i++)
		if (pthread_create(&threads[i], NULL, unpack_next_ones, &count) != 0)
			fail("start a thread");
	for (int i = 0; i < AT_ONCE; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

/*
 * A guest's program that hands pictures to processes on the host without a monitor: docs/export.md.
 *
 *   guest-producer PORT WIDTH HEIGHT FRAMES
 *
 * PORT is a virtio-serial port, such as /dev/virtio-ports/scanout.export. The program makes two buffers of its own
 * memory that other devices may use, exports them, and draws pictures 0 to FRAMES - 1 into them by turns. After each
 * it says that the buffer is ready, and it draws into a buffer only when that is released. It prints a line
 * "SERIAL RESULT" for each answer, and "done" when all are there.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <drm.h>
#include <drm_fourcc.h>
#include <virtgpu_drm.h>

#define BUFFERS 2

/* linux/virtgpu_drm.h from Linux 5.11; older libdrm headers lack it. */
#ifndef DRM_IOCTL_VIRTGPU_RESOURCE_CREATE_BLOB
struct drm_virtgpu_resource_create_blob {
	uint32_t blob_mem, blob_flags, bo_handle, res_handle;
	uint64_t size;
	uint32_t pad, cmd_size;
	uint64_t cmd, blob_id;
};
#define VIRTGPU_BLOB_MEM_GUEST 1
#define VIRTGPU_BLOB_FLAG_USE_MAPPABLE 1
#define VIRTGPU_BLOB_FLAG_USE_SHAREABLE 2
#define VIRTGPU_BLOB_FLAG_USE_CROSS_DEVICE 4
#define DRM_IOCTL_VIRTGPU_RESOURCE_CREATE_BLOB \
	DRM_IOWR(DRM_COMMAND_BASE + 0x0a, struct drm_virtgpu_resource_create_blob)
#endif

/* docs/export.md */
enum { PRODUCER_READY = 0x201, PRODUCER_RELEASED = 0x202 };
struct export_header { uint32_t size, type; };
struct producer_ready {
	struct export_header header;
	uint32_t resource, fourcc, width, height, offset, stride;
	uint64_t serial;
};
struct producer_released { struct export_header header; uint32_t resource, result; uint64_t serial; };

struct buffer {
	uint32_t resource;
	uint32_t *pixels;
	int is_busy;
};

static void must(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
}

/* A blob of guest memory, mapped. Exporting it makes the driver ask the device for its UUID. */
static struct buffer make_buffer(int card, size_t size)
{
	struct drm_virtgpu_resource_create_blob blob = {
		.blob_mem = VIRTGPU_BLOB_MEM_GUEST,
		.blob_flags = VIRTGPU_BLOB_FLAG_USE_MAPPABLE | VIRTGPU_BLOB_FLAG_USE_SHAREABLE |
			      VIRTGPU_BLOB_FLAG_USE_CROSS_DEVICE,
		.size = size,
	};
	must(ioctl(card, DRM_IOCTL_VIRTGPU_RESOURCE_CREATE_BLOB, &blob), "VIRTGPU_RESOURCE_CREATE_BLOB");
	struct drm_virtgpu_map map = { .handle = blob.bo_handle };
	must(ioctl(card, DRM_IOCTL_VIRTGPU_MAP, &map), "VIRTGPU_MAP");
	uint32_t *pixels = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, card, map.offset);
	if (pixels == MAP_FAILED)
		err(1, "mmap");
	struct drm_prime_handle prime = { .handle = blob.bo_handle, .flags = DRM_CLOEXEC | DRM_RDWR };
	must(ioctl(card, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime), "PRIME_HANDLE_TO_FD");
	return (struct buffer){ .resource = blob.res_handle, .pixels = pixels };
}

/* Picture number `seed`, as guest-draw.c has it: every pixel differs from its neighbours in every direction. */
static void draw(uint32_t *pixels, uint32_t width, uint32_t height, uint32_t seed)
{
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++) {
			uint32_t r = x * 7 + seed * 31, g = y * 5 + seed * 17, b = (x ^ y) + seed * 13;
			pixels[y * width + x] = (r & 255) << 16 | (g & 255) << 8 | (b & 255);
		}
}

static void read_all(int port, void *bytes, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t count = read(port, (char *)bytes + done, length - done);
		if (count < 0)
			err(1, "read");
		if (count == 0)
			usleep(10000); /* the host has not connected the port yet */
		done += count;
	}
}

static void wait_for_release(int port, struct buffer *buffers)
{
	struct producer_released released;
	read_all(port, &released, sizeof released);
	if (released.header.type != PRODUCER_RELEASED || released.header.size != sizeof released)
		errx(1, "the host sent a message of type %x with %u bytes", released.header.type, released.header.size);
	printf("%llu %u\n", (unsigned long long)released.serial, released.result);
	fflush(stdout);
	for (int i = 0; i < BUFFERS; i++)
		if (buffers[i].resource == released.resource)
			buffers[i].is_busy = 0;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		errx(2, "usage: guest-producer PORT WIDTH HEIGHT FRAMES");
	uint32_t width = atoi(argv[2]), height = atoi(argv[3]), frames = atoi(argv[4]);
	int port = open(argv[1], O_RDWR | O_CLOEXEC);
	must(port, argv[1]);
	int card = open("/dev/dri/renderD128", O_RDWR | O_CLOEXEC);
	must(card, "/dev/dri/renderD128");

	struct buffer buffers[BUFFERS];
	for (int i = 0; i < BUFFERS; i++) {
		buffers[i] = make_buffer(card, ((size_t)width * height * 4 + 4095) & ~(size_t)4095);
		printf("resource %u\n", buffers[i].resource);
	}
	fflush(stdout);

	for (uint32_t frame = 0; frame < frames; frame++) {
		struct buffer *buffer = &buffers[frame % BUFFERS];
		while (buffer->is_busy)
			wait_for_release(port, buffers);
		draw(buffer->pixels, width, height, frame);
		struct producer_ready ready = {
			.header = { sizeof ready, PRODUCER_READY },
			.resource = buffer->resource,
			.fourcc = DRM_FORMAT_XRGB8888,
			.width = width,
			.height = height,
			.stride = width * 4,
			.serial = frame,
		};
		if (write(port, &ready, sizeof ready) != sizeof ready)
			err(1, "write");
		buffer->is_busy = 1;
	}
	for (int i = 0; i < BUFFERS; i++)
		while (buffers[i].is_busy)
			wait_for_release(port, buffers);
	puts("done");
	return 0;
}

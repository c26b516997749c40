/*
 * Draws known pictures in a test guest through its DRM driver. Reads one command per line from stdin
 * and answers each with one line: "ok", "ok VALUE" or "error WHAT: WHY".
 *
 *   output N            selects the N-th connector for the following commands (0 at the start)
 *   mode W H            sets that mode, listed or not, with three buffers; shows picture 0
 *   pattern SEED        draws a picture into the buffer on screen and marks all of it as damaged
 *   damage SEED X Y W H the same for one rectangle
 *   flip N [plain] [every US]   N page flips, one every US microseconds; answers with the microseconds
 *                       until the device has handled all of them. (The driver's flip events do not
 *                       wait for the device.) Frame f, counted from the mode set, shows buffer f % 3,
 *                       which started as picture f % 3. Unless plain, the 64x64 part of picture f at
 *                       (f % 8) * 8, (f % 8) * 8 is drawn into it first
 *   alike               draws picture 0 into all buffers. From then on each flip, unless it is plain, differs from the
 *                       one before in the top left 120x120 pixels only
 *   fill N BUFFERS      N page flips over the first BUFFERS buffers as fast as the guest can: frame f is filled with
 *                       colour f % 64 from end to end, then flipped to. Waits only for the driver's flip events
 *   cursor SEED X Y HX HY   shows the 64x64 cursor picture with its top left corner at X Y
 *   move X Y            moves the cursor (its top left corner)
 *   hide                hides the cursor
 *   answer N            waits for N presses of a button since it was called first, and draws another picture into the
 *                       64x64 pixels in the top left corner after each
 *   off                 turns the output off
 *   sync                only waits for the device, as every command does in the end: see below
 *   quit
 *
 * A command is answered only after the device has answered everything the guest queued on its control
 * queue: this program creates a small resource with a fence and waits for it. There is no way to wait
 * for the cursor queue. Other drivers than virtio_gpu have no queue.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <drm_fourcc.h>
#include <virtgpu_drm.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#define BUFFERS 3
#define CURSOR 64
#define OUTPUTS 16
#define DEVICES 16

struct buffer {
	uint32_t handle, fb, width, height, stride;
	uint64_t size;
	uint32_t *pixels;
};

struct output {
	uint32_t connector, crtc;
	struct buffer buffers[BUFFERS], cursor;
	unsigned frame;
	bool alike;
};

static int card;
static bool is_virtio;
static struct output outputs[OUTPUTS];
static char error_text[160];

static bool failed(const char *what)
{
	snprintf(error_text, sizeof error_text, "%s: %s", what, strerror(errno));
	return false;
}

static bool wrong(const char *what)
{
	snprintf(error_text, sizeof error_text, "%s", what);
	return false;
}

/* Picture number `seed`: every pixel differs from its neighbours in every direction. */
static uint32_t picture(uint32_t seed, uint32_t x, uint32_t y)
{
	uint32_t r = x * 7 + seed * 31, g = y * 5 + seed * 17, b = (x ^ y) + seed * 13;
	return (r & 255) << 16 | (g & 255) << 8 | (b & 255);
}

/* Premultiplied, as cursor planes expect; from transparent at the left to opaque at the right. */
static uint32_t cursor_picture(uint32_t seed, uint32_t x, uint32_t y)
{
	uint32_t a = x * 255 / (CURSOR - 1), colour = picture(seed, x, y);
	uint32_t r = (colour >> 16 & 255) * a / 255, g = (colour >> 8 & 255) * a / 255, b = (colour & 255) * a / 255;
	return a << 24 | r << 16 | g << 8 | b;
}

static void draw(struct buffer *b, uint32_t seed, uint32_t left, uint32_t top, uint32_t width, uint32_t height)
{
	for (uint32_t y = top; y < top + height && y < b->height; y++)
		for (uint32_t x = left; x < left + width && x < b->width; x++)
			b->pixels[y * (b->stride / 4) + x] = picture(seed, x, y);
}

static void destroy(struct buffer *b)
{
	if (b->fb) drmModeRmFB(card, b->fb);
	if (b->pixels) munmap(b->pixels, b->size);
	if (b->handle) drmModeDestroyDumbBuffer(card, b->handle);
	memset(b, 0, sizeof *b);
}

static bool create(struct buffer *b, uint32_t width, uint32_t height, uint32_t fourcc)
{
	b->width = width;
	b->height = height;
	if (drmModeCreateDumbBuffer(card, width, height, 32, 0, &b->handle, &b->stride, &b->size)) return failed("create a dumb buffer");
	uint32_t handles[4] = { b->handle }, strides[4] = { b->stride }, offsets[4] = { 0 };
	if (drmModeAddFB2(card, width, height, fourcc, handles, strides, offsets, &b->fb, 0)) return failed("add a framebuffer");
	uint64_t offset;
	if (drmModeMapDumbBuffer(card, b->handle, &offset)) return failed("map a dumb buffer");
	void *at = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)offset);
	if (at == MAP_FAILED) return failed("mmap");
	b->pixels = at;
	return true;
}

/* The connector's own mode of that size; if it has none, one at 60 Hz with plain blanking. */
static drmModeModeInfo mode_for(uint32_t connector, uint32_t width, uint32_t height)
{
	drmModeModeInfo mode = {
		.hdisplay = width, .hsync_start = width + 16, .hsync_end = width + 48, .htotal = width + 96,
		.vdisplay = height, .vsync_start = height + 3, .vsync_end = height + 8, .vtotal = height + 32,
		.vrefresh = 60, .clock = (width + 96) * (height + 32) * 60 / 1000,
	};
	snprintf(mode.name, sizeof mode.name, "%ux%u", width, height);
	drmModeConnector *c = drmModeGetConnector(card, connector);
	for (int i = 0; c && i < c->count_modes; i++)
		if (c->modes[i].hdisplay == width && c->modes[i].vdisplay == height) {
			mode = c->modes[i];
			break;
		}
	drmModeFreeConnector(c);
	return mode;
}

static bool set_mode(struct output *o, uint32_t width, uint32_t height)
{
	struct buffer old[BUFFERS];
	memcpy(old, o->buffers, sizeof old);
	memset(o->buffers, 0, sizeof o->buffers);
	for (int i = 0; i < BUFFERS; i++) {
		if (!create(&o->buffers[i], width, height, DRM_FORMAT_XRGB8888)) return false;
		draw(&o->buffers[i], i, 0, 0, width, height);
	}
	drmModeModeInfo mode = mode_for(o->connector, width, height);
	if (drmModeSetCrtc(card, o->crtc, o->buffers[0].fb, 0, 0, &o->connector, 1, &mode)) return failed("set the mode");
	o->frame = 0;
	o->alike = false;
	for (int i = 0; i < BUFFERS; i++) destroy(&old[i]);
	return true;
}

static bool damage(struct output *o, uint32_t seed, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
	struct buffer *b = &o->buffers[o->frame % BUFFERS];
	if (!b->fb) return wrong("no mode is set");
	if (x + width > b->width || y + height > b->height) return wrong("outside the screen");
	draw(b, seed, x, y, width, height);
	drmModeClip clip = { x, y, x + width, y + height };
	/* A driver whose device shows its memory as it is knows no damage. */
	return !drmModeDirtyFB(card, b->fb, &clip, 1) || errno == ENOSYS || failed("mark as dirty");
}

static bool sync_control_queue(void)
{
	if (!is_virtio) return true;
	struct drm_virtgpu_resource_create resource = {
		.target = 2, .format = 2 /* B8G8R8X8 */, .width = 16, .height = 16, .depth = 1, .array_size = 1, .size = 16 * 16 * 4, .stride = 64,
	};
	if (drmIoctl(card, DRM_IOCTL_VIRTGPU_RESOURCE_CREATE, &resource)) return failed("create a resource to wait for");
	struct drm_virtgpu_3d_wait wait = { .handle = resource.bo_handle };
	int r;
	do r = drmIoctl(card, DRM_IOCTL_VIRTGPU_WAIT, &wait);
	while (r && errno == EBUSY);
	if (r) failed("wait for the resource");
	drmCloseBufferHandle(card, resource.bo_handle);
	return !r;
}

static void flipped(int fd, unsigned sequence, unsigned s, unsigned us, void *done)
{
	(void)fd, (void)sequence, (void)s, (void)us;
	*(bool *)done = true;
}

/* Flips to buffer b and waits for the driver's event. */
static bool flip_to(struct output *o, struct buffer *b)
{
	bool done = false;
	if (drmModePageFlip(card, o->crtc, b->fb, DRM_MODE_PAGE_FLIP_EVENT, &done)) return failed("flip");
	drmEventContext context = { .version = 2, .page_flip_handler = flipped };
	while (!done)
		if (drmHandleEvent(card, &context)) return failed("read the flip's event");
	return true;
}

static uint32_t colour(unsigned number)
{
	return (number * 0x9e3779b1u) >> 8;
}

static bool fill(struct output *o, unsigned count, unsigned buffers)
{
	if (!o->buffers[0].fb) return wrong("no mode is set");
	if (buffers < 2 || buffers > BUFFERS) return wrong("no such number of buffers");
	for (unsigned f = 0; f < count; f++) {
		struct buffer *b = &o->buffers[f % buffers];
		uint32_t filling = colour(f % 64);
		for (uint64_t i = 0; i < (uint64_t)b->stride / 4 * b->height; i++) b->pixels[i] = filling;
		if (!flip_to(o, b)) return false;
	}
	return sync_control_queue();
}

static bool flip(struct output *o, unsigned count, bool plain, long long period_us, long long *us)
{
	struct timespec start, end, next;
	if (!o->buffers[0].fb) return wrong("no mode is set");
	clock_gettime(CLOCK_MONOTONIC, &start);
	next = start;
	while (count--) {
		unsigned frame = o->frame + 1, at = frame % 8 * 8;
		struct buffer *b = &o->buffers[frame % BUFFERS];
		if (!plain && o->alike) draw(b, 0, 0, 0, 7 * 8 + 64, 7 * 8 + 64);
		if (!plain) draw(b, frame, at, at, 64, 64);
		if (!flip_to(o, b)) return false;
		o->frame = frame;
		next.tv_nsec += period_us * 1000;
		next.tv_sec += next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		if (period_us) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	if (!sync_control_queue()) return false;
	clock_gettime(CLOCK_MONOTONIC, &end);
	*us = (end.tv_sec - start.tv_sec) * 1000000LL + (end.tv_nsec - start.tv_nsec) / 1000;
	return true;
}

static bool cursor(struct output *o, uint32_t seed, int x, int y, int hot_x, int hot_y)
{
	/* A new buffer each time: the driver sends a cursor's pixels when the buffer changes. */
	struct buffer old = o->cursor;
	memset(&o->cursor, 0, sizeof o->cursor);
	if (!create(&o->cursor, CURSOR, CURSOR, DRM_FORMAT_ARGB8888)) return false;
	for (int py = 0; py < CURSOR; py++)
		for (int px = 0; px < CURSOR; px++)
			o->cursor.pixels[py * (o->cursor.stride / 4) + px] = cursor_picture(seed, px, py);
	if (drmModeSetCursor2(card, o->crtc, o->cursor.handle, CURSOR, CURSOR, hot_x, hot_y)) return failed("set the cursor");
	if (drmModeMoveCursor(card, o->crtc, x, y)) return failed("move the cursor");
	destroy(&old);
	return true;
}

/* Input devices are opened by the first call. */
static bool answer(struct output *o, unsigned presses)
{
	static struct pollfd devices[DEVICES];
	static nfds_t count;
	static uint32_t seed;
	if (count == 0)
		for (unsigned i = 0; i < DEVICES; i++) {
			char path[32];
			snprintf(path, sizeof path, "/dev/input/event%u", i);
			devices[count].fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
			devices[count].events = POLLIN;
			if (devices[count].fd >= 0) count++;
		}
	if (count == 0) return wrong("no input device");
	while (presses > 0) {
		struct input_event event;
		if (poll(devices, count, -1) < 0) return failed("wait for input");
		for (nfds_t i = 0; i < count; i++)
			while (presses > 0 && read(devices[i].fd, &event, sizeof event) == sizeof event) {
				if (event.type != EV_KEY || event.code != BTN_LEFT || event.value != 1) continue;
				if (!damage(o, ++seed, 0, 0, 64, 64)) return false;
				presses--;
			}
	}
	return true;
}

static bool open_card(void)
{
	card = open("/dev/dri/card0", O_RDWR | O_CLOEXEC);
	if (card < 0) return failed("open /dev/dri/card0");
	drmModeRes *resources = drmModeGetResources(card);
	if (!resources) return failed("get the resources");
	/* virtio-gpu has one CRTC per connector, in the same order. */
	for (int i = 0; i < resources->count_connectors && i < resources->count_crtcs && i < OUTPUTS; i++) {
		outputs[i].connector = resources->connectors[i];
		outputs[i].crtc = resources->crtcs[i];
	}
	drmModeFreeResources(resources);
	drmVersion *version = drmGetVersion(card);
	is_virtio = version && !strcmp(version->name, "virtio_gpu");
	drmFreeVersion(version);
	return true;
}

int main(void)
{
	char line[128];
	unsigned selected = 0;
	if (!open_card()) {
		printf("error %s\n", error_text);
		return 1;
	}
	while (fgets(line, sizeof line, stdin)) {
		struct output *o = &outputs[selected];
		uint32_t n = 0, buffers, x, y, w, h;
		int sx, sy, hot_x, hot_y;
		long long us = -1;
		bool ok;
		line[strcspn(line, "\n")] = 0;
		if (!strcmp(line, "quit")) break;
		if (sscanf(line, "output %u", &n) == 1) {
			ok = n < OUTPUTS && outputs[n].connector ? (selected = n, true) : wrong("no such output");
		} else if (sscanf(line, "mode %u %u", &w, &h) == 2) {
			ok = set_mode(o, w, h);
		} else if (sscanf(line, "pattern %u", &n) == 1) {
			struct buffer *front = &o->buffers[o->frame % BUFFERS];
			ok = damage(o, n, 0, 0, front->width, front->height);
		} else if (sscanf(line, "damage %u %u %u %u %u", &n, &x, &y, &w, &h) == 5) {
			ok = damage(o, n, x, y, w, h);
		} else if (sscanf(line, "flip %u", &n) == 1) {
			const char *every = strstr(line, "every");
			ok = flip(o, n, strstr(line, "plain"), every ? atoll(every + strlen("every")) : 0, &us);
		} else if (!strcmp(line, "alike")) {
			for (int i = 0; i < BUFFERS; i++) draw(&o->buffers[i], 0, 0, 0, o->buffers[i].width, o->buffers[i].height);
			o->alike = true;
			ok = damage(o, 0, 0, 0, o->buffers[0].width, o->buffers[0].height);
		} else if (sscanf(line, "fill %u %u", &n, &buffers) == 2) {
			ok = fill(o, n, buffers);
		} else if (sscanf(line, "cursor %u %d %d %d %d", &n, &sx, &sy, &hot_x, &hot_y) == 5) {
			ok = cursor(o, n, sx, sy, hot_x, hot_y);
		} else if (sscanf(line, "move %d %d", &sx, &sy) == 2) {
			ok = !drmModeMoveCursor(card, o->crtc, sx, sy) || failed("move the cursor");
		} else if (!strcmp(line, "hide")) {
			ok = !drmModeSetCursor(card, o->crtc, 0, 0, 0) || failed("hide the cursor");
		} else if (sscanf(line, "answer %u", &n) == 1) {
			ok = answer(o, n);
		} else if (!strcmp(line, "off")) {
			ok = !drmModeSetCrtc(card, o->crtc, 0, 0, 0, NULL, 0, NULL) || failed("turn off");
		} else {
			ok = !strcmp(line, "sync") || wrong("unknown command");
		}
		ok = ok && sync_control_queue();
		if (!ok) printf("error %s\n", error_text);
		else if (us >= 0) printf("ok %lld\n", us);
		else printf("ok\n");
		fflush(stdout);
	}
	return 0;
}

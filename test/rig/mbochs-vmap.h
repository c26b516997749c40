/*
 * What the sample device mbochs lacks so that its dma-bufs can be read by a display without hardware (vkms) and by the
 * CPU, as those of real drivers can. install.sh includes it.
 */
#include <linux/iosys-map.h>

static int mbochs_vmap(struct dma_buf *buf, struct iosys_map *map)
{
	struct mbochs_dmabuf *dmabuf = buf->priv;
	void *address = vmap(dmabuf->pages, dmabuf->pagecount, VM_MAP, PAGE_KERNEL);

	if (!address)
		return -ENOMEM;
	iosys_map_set_vaddr(map, address);
	return 0;
}

static void mbochs_vunmap(struct dma_buf *buf, struct iosys_map *map)
{
	vunmap(map->vaddr);
}

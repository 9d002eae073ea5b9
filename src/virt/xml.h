/* src/virt/xml.h - libxml2 with limits and our error convention; pure.
 *
 * Foreign text: at most XML_MAX bytes of UTF-8; a DOCTYPE (and with it every entity) is
 * refused when the parser meets it; no network, no includes; libxml2's own limits on depth
 * (256) and on the length of names and text stay on.  Thread: any.
 */
#ifndef SNM_VIRT_XML_H
#define SNM_VIRT_XML_H

#include <libxml/tree.h>
#include <stddef.h>

#include "base/err.h"

enum { XML_MAX = 4 << 20 };

static inline void xml_doc_auto(xmlDocPtr *doc)
{
    if (*doc != NULL)
        xmlFreeDoc(*doc);
}

/* Parse @text, whose root element must be @root.  *out: xmlFreeDoc().
 * Errors: ERR_PROTO with the line. */
MUST_CHECK bool xml_load(const char *text, const char *root, xmlDocPtr *out,
                         struct err *e);

/* Whether @node is the element @name outside any namespace. */
bool xml_is(const xmlNode *node, const char *name);
/* The first child element of that name, and the next sibling with the name of @node.
 * NULL: none, also for a NULL @node. */
xmlNodePtr xml_child(const xmlNode *node, const char *name);
xmlNodePtr xml_next(const xmlNode *node);

/* Copy an attribute, or the text of an element; "" where it, or @node, is missing.
 * Errors: ERR_PROTO longer than @size - 1 bytes, or control characters in it. */
MUST_CHECK bool xml_attr(xmlNodePtr node, const char *name, char *dst, size_t size,
                         struct err *e);
MUST_CHECK bool xml_text(xmlNodePtr node, char *dst, size_t size, struct err *e);
/* Whether the attribute is there and has that value. */
bool xml_attr_is(xmlNodePtr node, const char *name, const char *value);

/* @node and what is in it, as text: free(3).  NULL: out of memory. */
char *xml_dump(xmlNodePtr node);

#endif

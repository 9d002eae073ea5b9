#include "virt/xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <pthread.h>
#include <string.h>

#include "base/mem.h"

#if LIBXML_VERSION < 21300
#define XML_PARSE_NO_XXE 0 /* an option since 2.13; refusing DOCTYPE covers it before */
#endif

static void parser_auto(xmlParserCtxtPtr *p)
{
    if (*p != NULL)
        xmlFreeParserCtxt(*p);
}

static void xml_str_auto(xmlChar **s)
{
    if (*s != NULL)
        xmlFree(*s);
}

static void buffer_auto(xmlBufferPtr *b)
{
    if (*b != NULL)
        xmlBufferFree(*b);
}

/* Called by the parser at "<!DOCTYPE", before any declaration in it is looked at. */
static void refuse_doctype(void *ctx, const xmlChar *name, const xmlChar *ext,
                           const xmlChar *sys)
{
    xmlParserCtxtPtr p = ctx;

    (void)name, (void)ext, (void)sys;
    *(bool *)p->_private = true;
    xmlStopParser(p);
}

static bool parse(xmlParserCtxtPtr p, const char *text, size_t len, xmlDocPtr *out,
                  struct err *e)
{
    enum {
        FLAGS =
            XML_PARSE_NONET | XML_PARSE_NO_XXE | XML_PARSE_NOERROR | XML_PARSE_NOWARNING
    };
    bool doctype = false;

    p->_private = &doctype;
    p->sax->internalSubset = refuse_doctype;
    /* The encoding is given, so that a declaration cannot choose an exotic one. */
    AUTO(xml_doc)
    xmlDocPtr doc = xmlCtxtReadMemory(p, text, (int)len, "domain.xml", "UTF-8", FLAGS);
    if (doctype)
        return err_set(e, ERR_PROTO, 0, "XML with a DOCTYPE is refused");
    if (doc == NULL || !p->wellFormed) {
        const xmlError *x = xmlCtxtGetLastError(p);
        return err_set(e, ERR_PROTO, 0, "malformed XML at line %d (libxml2 error %d)",
                       x != NULL ? x->line : 0, x != NULL ? x->code : 0);
    }
    *out = ptr_steal(&doc);
    return true;
}

bool xml_load(const char *text, const char *root, xmlDocPtr *out, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const size_t len = strnlen(text, XML_MAX + 1);

    if (len > XML_MAX)
        return err_set(e, ERR_PROTO, 0, "XML of more than %d bytes", XML_MAX);
    pthread_once(&once, xmlInitParser);

    AUTO(parser) xmlParserCtxtPtr p = xmlNewParserCtxt();
    AUTO(xml_doc) xmlDocPtr doc = NULL;
    if (p == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "XML parser");
    if (!parse(p, text, len, &doc, e))
        return false;
    if (!xml_is(xmlDocGetRootElement(doc), root))
        return err_set(e, ERR_PROTO, 0, "XML without a <%s> element at its root", root);

    *out = ptr_steal(&doc);
    return true;
}

bool xml_is(const xmlNode *node, const char *name)
{
    return node != NULL && node->type == XML_ELEMENT_NODE && node->ns == NULL &&
           strcmp((const char *)node->name, name) == 0;
}

static xmlNodePtr first_from(xmlNodePtr at, const char *name)
{
    while (at != NULL && !xml_is(at, name))
        at = at->next;
    return at;
}

xmlNodePtr xml_child(const xmlNode *node, const char *name)
{
    return node != NULL ? first_from(node->children, name) : NULL;
}

xmlNodePtr xml_next(const xmlNode *node)
{
    return first_from(node->next, (const char *)node->name);
}

/* Take over @value, which may be NULL for "not there". */
static bool copy_value(xmlChar *value, const char *what, char *dst, size_t size,
                       struct err *e)
{
    AUTO(xml_str) xmlChar *v = value;
    const char *s = v != NULL ? (const char *)v : "";
    const size_t len = strlen(s);

    if (len >= size)
        return err_set(e, ERR_PROTO, 0, "%s has %zu bytes, at most %zu are accepted",
                       what, len, size - 1);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
            return err_set(e, ERR_PROTO, 0, "%s has a control character in it", what);
    memcpy(dst, s, len + 1);
    return true;
}

bool xml_attr(xmlNodePtr node, const char *name, char *dst, size_t size, struct err *e)
{
    if (node == NULL)
        return copy_value(NULL, name, dst, size, e);
    if (!copy_value(xmlGetNoNsProp(node, (const xmlChar *)name), name, dst, size, e))
        return err_wrap(e, "<%s>", (const char *)node->name);
    return true;
}

bool xml_text(xmlNodePtr node, char *dst, size_t size, struct err *e)
{
    if (node == NULL)
        return copy_value(NULL, "", dst, size, e);
    return copy_value(xmlNodeGetContent(node), (const char *)node->name, dst, size, e);
}

bool xml_attr_is(xmlNodePtr node, const char *name, const char *value)
{
    AUTO(xml_str)
    xmlChar *v = node != NULL ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;

    return v != NULL && strcmp((const char *)v, value) == 0;
}

char *xml_dump(xmlNodePtr node)
{
    AUTO(buffer) xmlBufferPtr buf = xmlBufferCreate();

    if (buf == NULL || xmlNodeDump(buf, node->doc, node, 0, 0) < 0)
        return NULL;
    return strdup((const char *)xmlBufferContent(buf));
}

//! The XML documents that imagery carries: bounded, without document type definitions (so no entity can blow up or name a file),
//! and asked for elements by name whatever their prefix.

use roxmltree::{Document, Node, ParsingOptions};

/// Bytes and nodes accepted in one document; the metadata of a Sentinel-2 product takes less than a megabyte.
const MAX_BYTES: usize = 16 << 20;
const MAX_NODES: u32 = 1 << 20;

/// Reads a document.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has {} bytes of XML; {MAX_BYTES} are accepted", text.len()));
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| format!("its XML is damaged: {error}"))
}

/// The elements of that name at or below `node`, in the document's order.
pub(crate) fn elements<'a, 'input: 'a>(node: Node<'a, 'input>, name: &str) -> impl Iterator<Item = Node<'a, 'input>> {
    node.descendants().filter(move |node| node.is_element() && node.tag_name().name() == name)
}

/// The text of an element up to its first child element, without the space around it.
pub(crate) fn text_of<'a>(element: Node<'a, '_>) -> &'a str {
    element.text().unwrap_or_default().trim()
}

/// The text of the first element of that name at or below `node`.
pub(crate) fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    elements(node, name).next().map(text_of)
}

/// The value of an attribute, whatever its prefix.
pub(crate) fn attribute<'a>(element: Node<'a, '_>, name: &str) -> Option<&'a str> {
    element.attributes().find(|attribute| attribute.name() == name).map(|attribute| attribute.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_their_name_whatever_their_prefix_and_not_inside_comments() {
        let xml = "<?xml version=\"1.0\"?><n:Root xmlns:n='u:n' a='1'><!-- <X>no</X> --><n:X b = \"x=y\" n:c='2'> 7 </n:X>\
                   <![CDATA[<X>nor here</X>]]><X/><Xs>8</Xs></n:Root>";
        let document = parse(xml).unwrap();
        let found: Vec<_> = elements(document.root(), "X").map(text_of).collect();
        assert_eq!(found, ["7", ""]);
        let first = elements(document.root(), "X").next().unwrap();
        assert_eq!(["b", "c", "d"].map(|name| attribute(first, name)), [Some("x=y"), Some("2"), None]);
        assert_eq!((text(document.root(), "Xs"), text(document.root(), "Y")), (Some("8"), None));
    }

    #[test]
    fn documents_that_define_entities_or_have_too_many_nodes_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b 'bb'><!ENTITY c '&b;&b;&b;&b;'>]><a>&c;&c;&c;</a>";
        assert!(parse(bomb).unwrap_err().contains("DTD"), "{:?}", parse(bomb));
        assert!(parse("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>").is_err());
        assert!(parse(&format!("<a>{}</a>", "<b/>".repeat(MAX_NODES as usize))).is_err());
        assert!(parse(&" ".repeat(MAX_BYTES + 1)).is_err());
        for damaged in ["", "<a>", "<a></b>", "a"] {
            assert!(parse(damaged).is_err(), "{damaged}");
        }
    }

    #[test]
    fn deeply_nested_elements_do_not_exhaust_the_stack() {
        let depth = 100_000;
        let _ = parse(&format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth)));
    }
}

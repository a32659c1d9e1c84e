//! Texts and attributes out of the XML that imagery products carry: flat, machine-written, and only ever asked for elements by
//! name, so that no general reader is needed. Prefixes of namespaces are passed over.

/// One element without child elements.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    attributes: &'a str,
    /// What stands between its tags.
    pub(crate) text: &'a str,
}

impl<'a> Element<'a> {
    /// The value of an attribute.
    pub(crate) fn attribute(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.attributes;
        while let Some((before, after)) = rest.split_once('=') {
            let value = after.trim_start();
            let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            let (value, after) = value[1..].split_once(quote)?;
            if local(before.trim()) == name {
                return Some(value);
            }
            rest = after;
        }
        None
    }
}

/// The part of a name after its prefix.
fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// The elements of that name, in the document's order. The text of one that has children is what precedes the first of them.
pub(crate) fn elements<'a>(xml: &'a str, name: &'a str) -> impl Iterator<Item = Element<'a>> {
    xml.split('<').skip(1).filter_map(move |tag| {
        let (head, text) = tag.split_once('>')?;
        let head = head.trim_end_matches('/');
        let (found, attributes) = head.split_once(char::is_whitespace).unwrap_or((head, ""));
        // Closing tags, comments and declarations have a name of their own.
        (local(found) == name && !found.starts_with(['/', '!', '?'])).then_some(Element { attributes, text })
    })
}

/// The text of the first element of that name.
pub(crate) fn text<'a>(xml: &'a str, name: &'a str) -> Option<&'a str> {
    elements(xml, name).next().map(|element| element.text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_their_name_whatever_their_prefix() {
        let xml = "<?xml version=\"1.0\"?><n1:Root a='1'><!-- <X>no</X> --><gml:X b = \"x=y\" n:c='2'> 7 </gml:X><X/><Xs>8</Xs></n1:Root>";
        let found: Vec<_> = elements(xml, "X").map(|element| element.text.trim()).collect();
        assert_eq!(found, ["no", "7", ""]);
        let second = elements(xml, "X").nth(1).unwrap();
        assert_eq!((second.attribute("b"), second.attribute("c"), second.attribute("d")), (Some("x=y"), Some("2"), None));
        assert_eq!((text(xml, "Xs"), text(xml, "Y")), (Some("8"), None));
    }
}

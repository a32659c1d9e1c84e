//! The syntax of well-known text: keywords with values in brackets.

/// Longest text that is read, bytes.
const MAX_LEN: usize = 32 << 10;

/// Deepest nesting that is read; real texts have four levels.
const MAX_DEPTH: usize = 12;

/// A keyword and what stands in its brackets.
#[derive(Debug, PartialEq)]
pub(super) struct Node<'a> {
    pub(super) keyword: &'a str,
    values: Vec<WktValue<'a>>,
}

#[derive(Debug, PartialEq)]
enum WktValue<'a> {
    Text(&'a str),
    Number(f64),
    Node(Node<'a>),
}

impl<'a> Node<'a> {
    /// Reads the first node of a text; what follows it is left.
    ///
    /// # Errors
    /// A sentence on what is wrong with the text.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        if text.len() > MAX_LEN {
            return Err(format!("its WKT has {} bytes; {MAX_LEN} are read", text.len()));
        }
        let mut parser = Parser { rest: text };
        match parser.value(0)? {
            WktValue::Node(node) => Ok(node),
            _ => Err("its WKT does not begin with a keyword".to_owned()),
        }
    }

    /// The first text in the brackets, such as a name.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.values.iter().find_map(|value| match value {
            WktValue::Text(text) => Some(*text),
            _ => None,
        })
    }

    /// The last text in the brackets, such as the code of an authority.
    pub(super) fn last_text(&self) -> Option<&'a str> {
        self.values.iter().rev().find_map(|value| match value {
            WktValue::Text(text) => Some(*text),
            _ => None,
        })
    }

    /// The numbers in the brackets.
    pub(super) fn numbers(&self) -> Vec<f64> {
        self.values
            .iter()
            .filter_map(|value| if let WktValue::Number(number) = value { Some(*number) } else { None })
            .collect()
    }

    /// The nodes in the brackets.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node<'a>> {
        self.values.iter().filter_map(|value| if let WktValue::Node(node) = value { Some(node) } else { None })
    }

    /// The first node with a keyword.
    pub(super) fn node(&self, keyword: &str) -> Option<&Node<'a>> {
        self.nodes().find(|node| node.keyword.eq_ignore_ascii_case(keyword))
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<WktValue<'a>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("its WKT is nested more than {MAX_DEPTH} deep"));
        }
        self.rest = self.rest.trim_start();
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let (text, rest) = quoted.split_once('"').ok_or("its WKT ends within a text")?;
            self.rest = rest;
            return Ok(WktValue::Text(text));
        }
        let end = self.rest.find(['[', '(', ']', ')', ',']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let word = word.trim();
        self.rest = rest;
        if rest.starts_with(['[', '(']) {
            return self.brackets(word, depth).map(WktValue::Node);
        }
        match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(WktValue::Number(number)),
            // A direction of an axis, such as `EAST`.
            _ => Ok(WktValue::Text(word)),
        }
    }

    fn brackets(&mut self, keyword: &'a str, depth: usize) -> Result<Node<'a>, String> {
        let mut values = Vec::new();
        loop {
            // The opening bracket, or the comma.
            self.rest = &self.rest[1..];
            values.push(self.value(depth + 1)?);
            self.rest = self.rest.trim_start();
            if self.rest.starts_with([']', ')']) {
                self.rest = &self.rest[1..];
                return Ok(Node { keyword, values });
            }
            if !self.rest.starts_with(',') {
                return Err("its WKT ends before all brackets are closed".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_texts_and_numbers_are_told_apart() {
        let node = Node::parse(" A[\"a b\", 1.5,B( -2e3 ,EAST), \"c\" ] ,VERTCS[\"x\"]").expect("a node");
        assert_eq!((node.keyword, node.text(), node.last_text()), ("A", Some("a b"), Some("c")));
        assert_eq!(node.numbers(), [1.5]);
        let inner = node.node("b").expect("an inner node");
        assert_eq!((inner.numbers(), inner.text()), (vec![-2000.0], Some("EAST")));
    }

    #[test]
    fn damaged_endless_and_deep_texts_are_refused() {
        for text in ["", "A", "\"A\"", "A[", "A[\"b]", "A[1", "A[1,", "A[B[1]", "\u{fc}[\u{fc}", "A[\"\u{fc}\"\u{fc}"] {
            assert!(Node::parse(text).is_err(), "{text:?}");
        }
        assert!(Node::parse(&"A[".repeat(100)).is_err());
        assert!(Node::parse(&format!("A[\"{}\"]", "b".repeat(MAX_LEN))).is_err());
    }
}

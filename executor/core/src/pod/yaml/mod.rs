//! YAML 1.1 as PyYAML's SafeLoader reads it: events from a parser crate, then anchors, merge keys and implicit types
//! here (crates that type YAML resolve 1.2, which reads `yes` and `0755` otherwise).

mod scalar;

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::python::Py;

/// Nodes after aliases are expanded. A pod has some hundred; the bound keeps a chain of aliases from filling the memory.
const NODES_MAX: usize = 100_000;

/// Comments of one text that may lack the blank before them: each costs a parse of its own.
const CLOSE_COMMENTS_MAX: usize = 100;

/// Why a text is no YAML that PyYAML would load.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct YamlError {
    /// From 1.
    pub(crate) line: usize,
    /// What is wrong there.
    pub(crate) what: String,
}

/// The value of the only document; `None` for an empty text. Several documents are an error, as in `safe_load`.
pub(crate) fn load(text: &str) -> Result<Py, YamlError> {
    let (graph, root) = Graph::compose(text).or_else(|error| {
        with_blanks_before_comments(text).map_or(Err(error), |text| Graph::compose(&text))
    })?;
    let Some(root) = root else { return Ok(Py::None) };
    let mut builder = Builder { graph: &graph, budget: NODES_MAX, open: Vec::new() };
    builder.value(root)
}

/// `[a]#b` with the blank that YAML demands before a comment and libyaml does not; `None` if no comment lacks it.
fn with_blanks_before_comments(text: &str) -> Option<String> {
    let mut out = text.to_owned();
    for inserted in 0..=CLOSE_COMMENTS_MAX {
        let refused = parser(&out).find_map(Result::err);
        let at = refused
            .filter(|error| *error.kind() == ErrorKind::CommentNotSeparated)
            .and_then(|error| error.marker().byte_offset())
            .filter(|at| out[..].get(*at..).is_some_and(|rest| rest.starts_with('#')));
        match at {
            Some(at) => out.insert(at, ' '),
            None => return (inserted > 0).then_some(out),
        }
    }
    None
}

fn parser(text: &str) -> Parser<'_, StrInput<'_>> {
    let mut options = granit_parser::options! {
        bom_inside_document_as_content: true,
        block_scalar_eof_without_line_feed: true,
        emit_anchor_events: true,
    };
    options.set_emit_comments(false);
    Parser::new_from_str_with_options(text, options)
}

/// A node as PyYAML's composer makes it; an alias is the same node again.
struct Node {
    line: usize,
    tag: String,
    kind: Kind,
}

enum Kind {
    Scalar(String),
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    anchors: BTreeMap<usize, usize>,
    anchor_names: BTreeSet<String>,
}

/// A collection that the parser is inside of: its node, and in a mapping the key that waits for its value.
struct Open {
    node: usize,
    key: Option<usize>,
}

impl Graph {
    /// The nodes of a text, and which of them is its document's root.
    fn compose(text: &str) -> Result<(Graph, Option<usize>), YamlError> {
        let mut graph = Graph::default();
        let (mut root, mut open, mut documents) = (None, Vec::new(), 0);
        for next in parser(text) {
            let (event, span) =
                next.map_err(|error| YamlError { line: error.marker().line(), what: error.to_string() })?;
            if matches!(event, Event::DocumentStart(..)) {
                documents += 1;
                if documents > 1 {
                    let what = "a second document begins; a template holds one pod".into();
                    return Err(YamlError { line: span.start.line(), what });
                }
            }
            if let Some(node) = graph.take(event, &span, &mut open)? {
                root = root.or(Some(node));
            }
        }
        Ok((graph, root))
    }

    /// Adds the node that an event stands for to the collection that is open. Gives the node when none is.
    fn take(
        &mut self,
        event: Event<'_>,
        span: &Span,
        open: &mut Vec<Open>,
    ) -> Result<Option<usize>, YamlError> {
        let line = span.start.line();
        let (node, anchor, opens) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = match tag_of(tag.as_deref()) {
                    // libyaml takes `!` as the wish to resolve the text, quoted or not.
                    Some(tag) if tag == "!" => scalar::implicit_tag(&text).to_owned(),
                    Some(tag) => tag,
                    None if style == ScalarStyle::Plain => scalar::implicit_tag(&text).to_owned(),
                    None => "str".to_owned(),
                };
                (Node { line, tag, kind: Kind::Scalar(text.into_owned()) }, anchor, false)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let tag = collection_tag(tag.as_deref(), "seq");
                (Node { line, tag, kind: Kind::Sequence(Vec::new()) }, anchor, true)
            }
            Event::MappingStart(_, anchor, tag) => {
                let tag = collection_tag(tag.as_deref(), "map");
                (Node { line, tag, kind: Kind::Mapping(Vec::new()) }, anchor, true)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                return Ok(None);
            }
            Event::Alias(id) => {
                let target = self.anchors.get(&id).copied();
                let node =
                    target.ok_or_else(|| YamlError { line, what: "an alias without its anchor".into() })?;
                return Ok(self.attach(node, open));
            }
            Event::Anchor(_, name) if !name.chars().all(in_anchor) => {
                let what =
                    format!("the anchor `{name}` has other characters than a-z, A-Z, 0-9, `-` and `_`");
                return Err(YamlError { line, what });
            }
            // YAML allows it; libyaml does not.
            Event::Anchor(_, name) if !self.anchor_names.insert(name.to_string()) => {
                return Err(YamlError { line, what: format!("the anchor `{name}` is there twice") });
            }
            _ => return Ok(None),
        };
        let id = self.nodes.len();
        self.nodes.push(node);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        let root = self.attach(id, open);
        if opens {
            open.push(Open { node: id, key: None });
        }
        Ok(root)
    }

    fn attach(&mut self, id: usize, open: &mut [Open]) -> Option<usize> {
        let Some(parent) = open.last_mut() else { return Some(id) };
        match &mut self.nodes[parent.node].kind {
            Kind::Sequence(items) => items.push(id),
            Kind::Mapping(pairs) => match parent.key.take() {
                None => parent.key = Some(id),
                Some(key) => pairs.push((key, id)),
            },
            Kind::Scalar(_) => {}
        }
        None
    }
}

/// libyaml ends the name of an anchor where YAML goes on: `&a:b c` is the text `:b c` there.
fn in_anchor(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// An explicit tag without YAML's own prefix.
fn tag_of(tag: Option<&Tag>) -> Option<String> {
    let tag = tag?;
    let full = format!("{}{}", tag.handle(), tag.suffix());
    Some(full.strip_prefix("tag:yaml.org,2002:").map(str::to_owned).unwrap_or(full))
}

fn collection_tag(tag: Option<&Tag>, default: &str) -> String {
    tag_of(tag).filter(|tag| tag != "!").unwrap_or_else(|| default.to_owned())
}

struct Builder<'a> {
    graph: &'a Graph,
    budget: usize,
    /// Collections being built: one of them met again is a structure that contains itself.
    open: Vec<usize>,
}

impl Builder<'_> {
    fn value(&mut self, id: usize) -> Result<Py, YamlError> {
        let node = &self.graph.nodes[id];
        let fail = |what: String| YamlError { line: node.line, what };
        self.budget = self.budget.checked_sub(1).ok_or_else(|| {
            fail(format!("its aliases expand to more than {NODES_MAX} values; a pod needs some hundred"))
        })?;
        if self.open.contains(&id) {
            return Err(fail("a collection that contains itself by an alias is no pod".into()));
        }
        match (&node.kind, node.tag.as_str()) {
            (Kind::Scalar(text), tag @ ("null" | "bool" | "int" | "float" | "timestamp" | "str")) => {
                scalar::construct(tag, text).ok_or_else(|| fail(format!("`{text}` is no valid {tag}")))
            }
            (Kind::Sequence(items), "seq") => {
                self.open.push(id);
                let items = items.iter().map(|item| self.value(*item)).collect::<Result<_, _>>()?;
                self.open.pop();
                Ok(Py::List(items))
            }
            (Kind::Mapping(_), "map") => {
                let pairs = self.flatten(id)?;
                self.open.push(id);
                let mut out: Vec<(Py, Py)> = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let (key, value) = (self.key(key)?, self.value(value)?);
                    match out.iter_mut().find(|(k, _)| k.same_key(&key)) {
                        Some(slot) => slot.1 = value,
                        None => out.push((key, value)),
                    }
                }
                self.open.pop();
                Ok(Py::Dict(out))
            }
            (_, tag) => Err(fail(format!("the tag `{tag}` makes no value of a pod"))),
        }
    }

    fn key(&mut self, id: usize) -> Result<Py, YamlError> {
        let node = &self.graph.nodes[id];
        match &node.kind {
            // PyYAML: a bare `=` as a key is that text.
            Kind::Scalar(text) if node.tag == "value" => Ok(Py::Str(text.clone())),
            Kind::Scalar(_) => self.value(id),
            _ => Err(YamlError { line: node.line, what: "a list or mapping can't be a key".into() }),
        }
    }

    /// The pairs of a mapping with those of its merge keys (`<<`) in front, so that its own come last and win.
    fn flatten(&mut self, id: usize) -> Result<Vec<(usize, usize)>, YamlError> {
        let node = &self.graph.nodes[id];
        let fail = |what: &str| YamlError { line: node.line, what: what.into() };
        self.budget = self.budget.checked_sub(1).ok_or_else(|| fail("its merge keys expand without end"))?;
        let Kind::Mapping(pairs) = &node.kind else {
            return Err(fail("a merge key takes a mapping or a list of mappings"));
        };
        if self.open.contains(&id) {
            return Err(fail("a mapping that merges itself is no pod"));
        }
        self.open.push(id);
        let (mut merged, mut own) = (Vec::new(), Vec::new());
        for (key, value) in pairs {
            if self.graph.nodes[*key].tag != "merge" {
                own.push((*key, *value));
                continue;
            }
            match &self.graph.nodes[*value].kind {
                // The first mapping of the list wins: it is put last.
                Kind::Sequence(items) => {
                    for item in items.iter().rev() {
                        merged.extend(self.flatten(*item)?);
                    }
                }
                _ => merged.extend(self.flatten(*value)?),
            }
            self.budget = self
                .budget
                .checked_sub(merged.len())
                .ok_or_else(|| fail("its merge keys expand without end"))?;
        }
        self.open.pop();
        merged.append(&mut own);
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        load(text).map_or_else(|e| e.to_string(), |v| v.to_text())
    }

    #[test]
    fn merge_keys_give_way_to_the_mapping_s_own() {
        let text = "base: &b {a: 1, c: 1}\nmore: &m {a: 2, d: 2}\nuse: {<<: [*b, *m], c: 3}\n";
        let want = "{'base': {'a': 1, 'c': 1}, 'more': {'a': 2, 'd': 2}, 'use': {'a': 1, 'd': 2, 'c': 3}}";
        assert_eq!(shown(text), want);
    }

    #[test]
    fn a_quoted_scalar_is_a_text_and_an_explicit_tag_counts() {
        assert_eq!(shown("[\"yes\", 'no', !!str 1, !!int \"7\", ! \"8\"]"), "['yes', 'no', '1', 7, 8]");
    }

    #[test]
    fn what_pyyaml_refuses_is_refused_with_its_line() {
        assert_eq!(
            shown("a: 1\nb: !!python/object:os.system x\n"),
            "line 2: the tag `python/object:os.system` makes no value of a pod"
        );
        assert_eq!(shown("a: 1\n---\nb: 1\n"), "line 2: a second document begins; a template holds one pod");
        assert_eq!(shown("a: &a [*a]\n"), "line 1: a collection that contains itself by an alias is no pod");
        assert_eq!(shown("? [a]\n: 1\n"), "line 1: a list or mapping can't be a key");
        assert_eq!(shown("- &a 1\n- &a 2\n"), "line 2: the anchor `a` is there twice");
        assert_eq!(
            shown("a: 1\nb: &b:c 2\n"),
            "line 2: the anchor `b:c` has other characters than a-z, A-Z, 0-9, `-` and `_`"
        );
        assert!(shown("a: [1\n").starts_with("line "));
    }

    #[test]
    fn a_comment_needs_no_blank_where_libyaml_asks_for_none() {
        assert_eq!(
            shown("a: [é, 1]#c\nb: 'q'#c\nc: {d: e,#c\n f: g}#c\nh: |#c\n  i\nj: k#l\n"),
            "{'a': ['é', 1], 'b': 'q', 'c': {'d': 'e', 'f': 'g'}, 'h': 'i\\n', 'j': 'k#l'}"
        );
        let many = format!("[\n{}]\n", "{a: 1}#c\n,".repeat(CLOSE_COMMENTS_MAX + 1));
        assert!(shown(&many).starts_with("line 2: comments must be separated"), "{}", shown(&many));
    }

    #[test]
    fn a_chain_of_aliases_is_cut_off() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        assert!(shown(&text).contains("expand to more than 100000 values"), "{}", shown(&text));
    }
}
